"""Dashboard of a table. `dsflow run dashboard-delays` starts it, Ctrl-C ends it."""

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
CELL = {"padding": "0.25rem 0.75rem", "borderBottom": "1px solid #ddd", "textAlign": "left", "whiteSpace": "nowrap"}

app = Dash(__name__, title=TITLE, suppress_callback_exceptions=True)
# the page is served by several threads, the engine answers one at a time
engine = threading.Lock()


def name(word):
    """Quote the name of a table or column for SQL."""
    return '"' + word.replace('"', '""') + '"'


def ask(query):
    """Run a query over the datastore; tables have a column ds."""
    with engine:
        return job.sql(query).df()


def page():
    """Make the page anew for each visit, so that it shows the dates that exist now."""
    try:
        dates = ask(f"SELECT min(ds) AS first, max(ds) AS last FROM {name(TABLE)}")
    except DsflowError as error:
        return html.Main([html.H1(TITLE), html.P(f"Table {TABLE} cannot be read: {error.message}")])
    first, last = dates.loc[0, "first"], dates.loc[0, "last"]
    return html.Main(
        [
            html.H1(TITLE),
            dcc.DatePickerRange(id="dates", start_date=first, end_date=last, display_format="YYYY-MM-DD"),
            dcc.Graph(id="chart"),
            html.H2("First rows"),
            html.Div(id="rows", style={"overflowX": "auto"}),
        ],
        style={"fontFamily": "sans-serif", "maxWidth": "70rem", "margin": "auto"},
    )


def between(first, last):
    """Give the SQL condition that keeps the chosen dates."""
    bounds = [(">=", first), ("<=", last)]
    return " AND ".join(f"ds[:10] {sign} '{str(day)[:10]}'" for sign, day in bounds if day) or "true"


@app.callback(Output("chart", "figure"), Input("dates", "start_date"), Input("dates", "end_date"))
def chart(first, last):
    """Draw the two columns against each other for the chosen dates."""
    try:
        rows = ask(f"SELECT {name(X_AXIS)} AS x, {name(Y_AXIS)} AS y FROM {name(TABLE)} WHERE {between(first, last)}")
    except DsflowError as error:
        return Figure(layout={"title": {"text": error.message}})
    layout = {"xaxis": {"title": {"text": X_AXIS}}, "yaxis": {"title": {"text": Y_AXIS}}, "margin": {"t": 40}}
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
