"""Reads what `toolgate ledger export` wrote with the parts that its readers are made of.

OCSF by the models that are generated from the schema (pydantic-ocsf), whose objects must have no member that the schema has
not, and whose "at least one of" is kept; CloudEvents by its SDK; OTLP by the official messages through protobuf's JSON.
Arguments: the ledger's own lines, then the three files. Prints what it found.
"""

import base64
import json
import re
import sys
from collections import Counter
from importlib.resources import files

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from google.protobuf import json_format
from ocsf.v1_7_0 import events, objects
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from pydantic import BaseModel

lines, ocsf, cloudevents, otel = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
found = {}

CLASSES = {3002: "Authentication", 3004: "EntityManagement", 3005: "UserAccess", 6002: "ApplicationLifecycle",
           6003: "ApiActivity"}
AT_LEAST_ONE = {
    "Authentication": ["service", "dst_endpoint"],
    "NetworkEndpoint": ["ip", "uid", "name", "hostname", "svc_name", "instance_uid", "domain"],
    "ManagedEntity": ["name", "uid", "device", "group", "org", "policy", "user"],
    "User": ["account", "name", "uid"],
    "Url": ["url_string", "path"],
}


def strict(model, where):
    """Nothing that the schema does not know, and at least one of what it wants one of."""
    if isinstance(model, list):
        for each in model:
            strict(each, where)
    if not isinstance(model, BaseModel) or where.endswith((".data", ".unmapped")):
        return
    assert not model.__pydantic_extra__, (where, model.__pydantic_extra__)
    wanted = AT_LEAST_ONE.get(type(model).__name__)
    assert not wanted or any(getattr(model, name, None) for name in wanted), where
    for name in type(model).model_fields:
        strict(getattr(model, name), f"{where}.{name}")


# The models take numbers alone for an enumeration; the schema they are made from has texts here.
SCHEMA = json.loads(files("ocsf").joinpath("schemas/v1_7_0.json").read_text())
METHODS = SCHEMA["objects"]["http_request"]["attributes"]["http_method"]["enum"]

for line, event in zip(lines, ocsf, strict=True):
    assert event.get("http_request", {}).pop("http_method", "GET") in METHODS, event
    name = CLASSES[event["class_uid"]]
    # Nor do they know what a profile adds to a class.
    if "trace" in event:
        assert "trace" in event["metadata"]["profiles"], event
        strict(objects.Trace.model_validate(event.pop("trace")), "Trace")
    strict(getattr(events, name).model_validate(event), name)
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"], event
    assert json.loads(event["raw_data"]) == line and event["metadata"]["sequence"] == line["seq"], event
found["ocsf"] = Counter(CLASSES[event["class_uid"]] for event in ocsf)

for line, event in zip(lines, cloudevents, strict=True):
    message = HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())
    read = from_structured_event(message, JSONFormat())
    assert read.get_data() == line and read.get_id() == str(line["seq"]), event
    assert read.get_source().endswith(line["instance"]) and read.get_time() is not None, event
found["cloudevents"] = Counter(event["type"] for event in cloudevents)


def hex_to_base64(log):
    """OTLP's JSON has ids in hex (its one difference to protobuf's)."""
    if "traceId" in log:
        assert re.fullmatch("[0-9a-f]{32}", log["traceId"]), log
        log["traceId"] = base64.b64encode(bytes.fromhex(log["traceId"])).decode()


traced = 0
for line, data in zip(lines, otel, strict=True):
    hex_to_base64(data["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0])
    logs = json_format.ParseDict(data, LogsData())
    record = logs.resource_logs[0].scope_logs[0].log_records[0]
    attributes = {each.key: each.value for each in record.attributes}
    assert attributes["toolgate.seq"].int_value == line["seq"], line
    assert record.time_unix_nano > 1_600_000_000_000_000_000 and record.body.string_value, line
    traced += record.trace_id == bytes.fromhex(line.get("trace", "")) != b""
found["otel"] = {"records": len(otel), "traced": traced}
print(json.dumps(found))
