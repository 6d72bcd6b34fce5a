"""Dashboard of a table. `dsflow start-dash dashboard-delays` starts it and `dsflow stop-all` ends it."""

import datetime as dt
import logging
import os
import threading

from dash import Dash, Input, Output, dcc, html
from plotly.graph_objects import Figure, Scatter
from werkzeug.serving import run_simple

from dsflow import job
from dsflow.errors import DsflowError

TITLE = "delays"
TABLE = "delays_by_weather"
X_AXIS = "wind_speed"
Y_AXIS = "mean_dep_delay"
# shown at first: so many of the newest partitions
NEWEST = 7
# more would be slow to draw and hard to read
MOST_POINTS = 20_000
CELL = {"padding": "0.25rem 0.75rem", "borderBottom": "1px solid #ddd", "textAlign": "left", "whiteSpace": "nowrap"}

app = Dash(__name__, title=TITLE, suppress_callback_exceptions=True)
# `dsflow start-dash` asks for pages that load themselves again when this file changes
app.enable_dev_tools(debug=False)
# the page is served by several threads, the engine answers one at a time
engine = threading.Lock()


def name(word):
    """Quote the name of a table or column for SQL."""
    return '"' + word.replace('"', '""') + '"'


def ask(query):
    """Run a query over the datastore; tables have a column ds."""
    with engine:
        return job.sql(query).df()


def partitions():
    """Give the partitions that exist now, oldest first."""
    return ask(f"SELECT DISTINCT ds FROM {name(TABLE)} ORDER BY ds")["ds"].tolist()


def day(ds):
    """Give the day on which a partition begins: an hour, a day, a week or a month."""
    return dt.date.fromisoformat(f"{ds}-01" if len(ds) == len("2026-11") else ds[:10])


def page():
    """Make the page anew for each visit, so that it shows the partitions that exist now."""
    if TABLE not in job.tables():
        return page_of(html.P(f"Table {TABLE} cannot be read: nobody has made it yet."))
    try:
        found = partitions()
    except DsflowError as error:
        return page_of(html.P(f"Table {TABLE} cannot be read: {error.message}"))
    if not found:
        return page_of(html.P(f"Table {TABLE} has no rows yet."))
    return page_of(
        dcc.DatePickerRange(
            id="dates",
            min_date_allowed=day(found[0]),
            max_date_allowed=day(found[-1]),
            start_date=day(found[-NEWEST:][0]),
            end_date=day(found[-1]),
            display_format="YYYY-MM-DD",
        ),
        dcc.Graph(id="chart"),
        html.H2("First rows"),
        html.Div(id="rows", style={"overflowX": "auto"}),
    )


def page_of(*parts):
    """Put what there is to show below the title."""
    style = {"fontFamily": "sans-serif", "maxWidth": "70rem", "margin": "auto", "padding": "0 1rem"}
    return html.Main([html.H1(TITLE), *parts], style=style)


def between(first, last):
    """Give the SQL condition that keeps the partitions of the chosen days."""
    first, last = (str(chosen)[:10] if chosen else "" for chosen in (first, last))
    kept = [ds for ds in partitions() if first <= str(day(ds)) <= (last or "9999")]
    return f"ds BETWEEN '{kept[0]}' AND '{kept[-1]}'" if kept else "false"


@app.callback(Output("chart", "figure"), Input("dates", "start_date"), Input("dates", "end_date"))
def chart(first, last):
    """Draw the two columns against each other for the chosen dates."""
    try:
        query = f"SELECT {name(X_AXIS)} AS x, {name(Y_AXIS)} AS y FROM {name(TABLE)} WHERE {between(first, last)}"
        rows = ask(f"{query} LIMIT {MOST_POINTS}")
    except DsflowError as error:
        return Figure(layout={"title": {"text": error.message}})
    layout = {"xaxis": {"title": {"text": X_AXIS}}, "yaxis": {"title": {"text": Y_AXIS}}, "margin": {"t": 40}}
    if len(rows) == MOST_POINTS:
        layout["title"] = {"text": f"The first {MOST_POINTS:,} rows"}
    return Figure(Scatter(x=rows["x"].tolist(), y=rows["y"].tolist(), mode="markers"), layout=layout)


@app.callback(Output("rows", "children"), Input("dates", "start_date"), Input("dates", "end_date"))
def table(first, last):
    """Show the first rows of the chosen dates."""
    try:
        rows = ask(f"SELECT * FROM {name(TABLE)} WHERE {between(first, last)} LIMIT 10")
    except DsflowError as error:
        return html.P(error.message)
    head = html.Tr([html.Th(column, style=CELL) for column in rows.columns])
    body = [html.Tr([html.Td(str(value), style=CELL) for value in row]) for row in rows.itertuples(index=False)]
    return html.Table([html.Thead(head), html.Tbody(body)], style={"borderCollapse": "collapse"})


@app.server.route("/healthz")
def healthz():
    """Tell whoever waits that the page can be opened."""
    return "ok"


app.layout = page

if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every click would hide the ones that matter
    host, port = os.environ.get("DSFLOW_HOST", "127.0.0.1"), int(os.environ.get("DSFLOW_PORT", "8050"))
    run_simple(host, port, app.server, threaded=True)
