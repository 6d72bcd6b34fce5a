"""Talks to the Java of a Spark server from its keeper: starts the service in it, and ends what nobody waits for.

The only module that imports py4j.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

# Java's main class: it waits to be told what to do, and ends when its standard input does.
MAIN_CLASS = "org.apache.spark.api.python.PythonGatewayServer"
# Where it is to write how it can be reached.
CONNECTION = "_PYSPARK_DRIVER_CONN_INFO_PATH"
# Without this it would keep a thread for each of ours.
ENVIRONMENT = {"PYSPARK_PIN_THREAD": "false"}
_SERVICE = "org.apache.spark.sql.connect.service.SparkConnectService"
_OPERATION = "SparkConnect_OperationTag"


class Gateway:
    """A connection to a Java that has started.

    Args:
        connection: The file in which it has written how it can be reached.
    """

    def __init__(self, connection: Path) -> None:
        from py4j.java_gateway import GatewayParameters, JavaGateway

        told = connection.read_bytes()
        port, length = struct.unpack(">ii", told[:8])
        secret = told[8 : 8 + length].decode()
        self._gateway = JavaGateway(
            gateway_parameters=GatewayParameters(port=port, auth_token=secret, auto_convert=True)
        )
        self._context: Any = None
        self._suspects: Collection[int] = ()

    def serve(self) -> int:
        """Start Spark and its Connect service, and give the port on which it listens."""
        jvm: Any = self._gateway.jvm
        session = jvm.org.apache.spark.sql.classic.SparkSession.builder().getOrCreate()
        self._context = session.sparkContext()
        self._service.start(self._context)
        # What Scala keeps in an object is a field of its class in Java.
        its_object = jvm.java.lang.Class.forName(f"{_SERVICE}$").getField("MODULE$").get(None)
        return int(its_object.localPort())

    def end_abandoned(self) -> list[int]:
        """Cancel the jobs whose query has ended, and give their numbers.

        A query that is interrupted while Spark plans it may start its first stage a moment later: nobody would wait for
        that, or end it, and it would keep everybody else from the cores. What is found twice is cancelled.
        """
        active = {int(number) for number in self._context.statusTracker().getActiveJobIds()}
        found = {number for number in active if self._is_abandoned(number)} if active else set()
        ended = sorted(found.intersection(self._suspects))
        for number in ended:
            self._context.cancelJob(number)
        self._suspects = found
        return ended

    @property
    def _service(self) -> Any:
        service: Any = self._gateway.jvm
        for part in _SERVICE.split("."):
            service = getattr(service, part)
        return service

    def _is_abandoned(self, number: int) -> bool:
        tags = _listed(self._context.statusStore().job(number).jobTags())
        own = {tag for tag in tags if tag.startswith(_OPERATION)}
        running = self._service.listActiveExecutions()
        return bool(own) and not own.intersection(_tags(running))


def _tags(running: Any) -> set[str]:
    """Give the tags of the queries that are running; Scala's Either has a time instead where there are none."""
    if not running.isRight():
        return set()
    return {str(query.jobTag()) for query in _listed(running.toOption().get())}


def _listed(sequence: Any) -> list[Any]:
    return [sequence.apply(index) for index in range(sequence.size())]
