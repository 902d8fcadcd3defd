"""The client: one connection, requests with answers, ends by the names of runs."""

from __future__ import annotations

import getpass
import json
import socket
import threading
import uuid
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Type
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import urlopen

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .errors import JobsError, NoAnswer, RequestRefused, RunFailed
from .messages import End, read_end, read_object

PREFIX = "services/mqtt_job_listener"
#: Ends that are kept for whoever asks later.
_MOST_ENDS = 10_000
_PORTS = {"mqtt": 1883, "mqtts": 8883}
#: Requests of several threads that the broker has not acknowledged. HiveMQ takes ten and cuts off who sends more.
_MOST_INFLIGHT = 10
#: Reason of a CONNACK: the broker does not speak this version of MQTT.
_UNSUPPORTED_VERSION = 132


class Run:
    """A run that was started."""

    def __init__(self, jobs: "Jobs", job_name: str, name: str) -> None:
        self._jobs = jobs
        self.job_name = job_name
        self.name = name

    def wait(self, timeout: Optional[float] = None) -> End:
        """How it ended, whatever that is; waits for it. A further attempt's end is this run's.

        Raises NoAnswer when ``timeout`` seconds are over. The end is heard on MQTT: a run that has ended before this
        client was connected is never heard of.
        """
        return self._jobs._wait(self.name, timeout)

    def result(self, timeout: Optional[float] = None) -> Any:
        """What the program wrote into RESULT_FILE. Raises RunFailed where the run has not succeeded."""
        end = self.wait(timeout)
        if not end.succeeded:
            raise RunFailed(end)
        return end.result

    def log(self) -> str:
        """Its log as text, from the service's page (``page=``)."""
        return self._jobs._log(self.name)

    def cancel(self) -> None:
        self._jobs._ask("cancel", {"run_name": self.name})

    def __repr__(self) -> str:
        return f"Run({self.name!r})"


class Jobs:
    """Rows of one service, reached by its broker: ``Jobs("mqtt://user:password@broker:1883")``.

    Speaks MQTT 5, and 3.1.1 where the broker knows nothing newer. ``page``: address of the service's page, for logs.
    ``timeout``: seconds to wait for an answer.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = PREFIX,
        page: Optional[str] = None,
        timeout: float = 15.0,
        requested_by: Optional[str] = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{parts.scheme}://{parts.hostname or ''}: write mqtt://broker:1883 or mqtts://broker:8883")
        self._prefix = prefix.rstrip("/")
        self._page = page.rstrip("/") if page else None
        self._timeout = timeout
        self._requested_by = requested_by or f"{_user()}@{socket.gethostname()}"
        self._answers: Dict[str, "Future[Mapping[str, Any]]"] = {}
        self._ends: Dict[str, End] = {}
        self._waiting: Dict[str, List["Future[End]"]] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._is_too_new = False
        self._fault: Optional[str] = None
        self._client = self._connected(parts, MQTTProtocolVersion.MQTTv5)
        if self._is_too_new:
            self.close()
            self._ready.clear()
            self._is_too_new = False
            self._client = self._connected(parts, MQTTProtocolVersion.MQTTv311)
        if not self._ready.is_set() or self._is_too_new:
            self.close()
            raise JobsError(f"Cannot use the broker {parts.hostname}: {self._fault or 'it does not answer'}")

    def _connected(self, parts: SplitResult, protocol: MQTTProtocolVersion) -> mqtt.Client:
        """A client that has subscribed, was told that the broker does not speak ``protocol``, or has no answer yet."""
        client_id = f"jobs-{uuid.uuid4().hex[:12]}"
        self._speaks_5 = protocol == MQTTProtocolVersion.MQTTv5
        # Without response topics an answer comes to everybody; its transaction says whose it is.
        self._reply = f"{self._prefix}/response/{client_id if self._speaks_5 else '+'}"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        client.max_inflight_messages_set(_MOST_INFLIGHT)
        if parts.username:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        try:
            client.connect(str(parts.hostname), parts.port or _PORTS[parts.scheme], keepalive=30)
        except OSError as error:
            raise JobsError(f"Cannot reach the broker {parts.hostname}: {error}") from error
        client.loop_start()
        self._ready.wait(self._timeout)
        return client

    # ------------------------------------------------------------ what is asked

    def run(self, row: str, *, key: Optional[str] = None, **inputs: Any) -> Run:
        """Starts a row; ``inputs`` become a JSON object, its payload. The same ``key`` starts the row once."""
        asked: Dict[str, Any] = {"job_name": row, "payload": inputs or ""}
        if key is not None:
            asked["key"] = key
        data = self._ask("run", asked)
        return Run(self, row, str(data.get("run_name")))

    def map(self, row: str, rows: Iterable[Mapping[str, Any]], *, timeout: Optional[float] = None) -> Iterator[End]:
        """Starts the row once for each of ``rows``, and gives their ends in the same order."""
        runs = [self.run(row, **inputs) for inputs in rows]
        return (run.wait(timeout) for run in runs)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    # ------------------------------------------------------------ requests and answers

    def _ask(self, what: str, asked: Dict[str, Any]) -> Mapping[str, Any]:
        transaction = uuid.uuid4().hex
        answered: "Future[Mapping[str, Any]]" = Future()
        with self._lock:
            self._answers[transaction] = answered
        properties: Optional[Properties] = None
        if self._speaks_5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = self._reply
            properties.CorrelationData = transaction.encode()
        body = json.dumps({**asked, "requested_by": self._requested_by, "transaction": transaction})
        try:
            self._client.publish(f"{self._prefix}/request/{what}", body, qos=1, properties=properties)
            answer = answered.result(self._timeout)
        except FutureTimeout:
            raise NoAnswer(f"The service did not answer within {self._timeout} s; is it running, with this prefix?") from None
        finally:
            with self._lock:
                self._answers.pop(transaction, None)
        if answer.get("status") != "ok":
            raise RequestRefused(str(answer.get("error") or "The service has refused it"))
        data = answer.get("data")
        return data if isinstance(data, dict) else {}

    def _wait(self, run_name: str, timeout: Optional[float]) -> End:
        heard: "Future[End]" = Future()
        with self._lock:
            end = self._ends.get(run_name)
            if end is not None:
                return end
            self._waiting.setdefault(run_name, []).append(heard)
        try:
            return heard.result(timeout)
        except FutureTimeout:
            raise NoAnswer(f"Run {run_name} has not ended within {timeout} s") from None

    def _log(self, run_name: str) -> str:
        if self._page is None:
            raise JobsError('Say where the service\'s page is to read logs: Jobs(…, page="http://service:8080")')
        try:
            with urlopen(f"{self._page}/runs/{quote(run_name)}/log", timeout=self._timeout) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except HTTPError as error:
            raise JobsError(f"There is no log of {run_name} ({error.code})") from error
        except URLError as error:
            raise JobsError(f"Cannot reach the page {self._page}: {error.reason}") from error

    # ------------------------------------------------------------ what is heard

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._fault = str(code)
            if code.value == _UNSUPPORTED_VERSION:
                self._is_too_new = True
                self._ready.set()
            return
        topics = [self._reply, *[f"{self._prefix}/{kind}/#" for kind in ("job_complete", "job_failed")]]
        client.subscribe([(topic, 1) for topic in topics])

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _id: int, codes: List[Any], _properties: Any) -> None:
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            self._fault = f"it refuses a subscription below {self._prefix} ({refused[0]})"
        else:
            self._ready.set()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith(f"{self._prefix}/response/"):
            self._hear_answer(message)
            return
        end = read_end(message.payload)
        if end is not None:
            self._hear_end(end)

    def _hear_answer(self, message: mqtt.MQTTMessage) -> None:
        answer = read_object(message.payload)
        transaction = answer.get("transaction") if answer else None
        with self._lock:
            asked = self._answers.pop(transaction, None) if isinstance(transaction, str) else None
        if asked is not None and answer is not None:
            asked.set_result(answer)

    def _hear_end(self, end: End) -> None:
        heard: List["Future[End]"] = []
        with self._lock:
            for name in {end.run_name, end.first_run or end.run_name}:
                self._ends[name] = end
                heard.extend(self._waiting.pop(name, []))
            while len(self._ends) > _MOST_ENDS:
                del self._ends[next(iter(self._ends))]
        for one in heard:
            one.set_result(end)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
