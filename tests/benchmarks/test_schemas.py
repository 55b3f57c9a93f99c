"""The schemas benchmark: its schemas are distinct, its judge tells valid answers from others, its walks stay valid."""

import json
from pathlib import Path
from random import Random

import pytest

from benchmarks.schemas.__main__ import walk_through
from benchmarks.schemas.checking import fault
from benchmarks.schemas.own import own_schemas
from benchmarks.schemas.suite import cases
from benchmarks.schemas.walking import matcher, takes, walk
from deltaserve.server.grammars.json_schema import json_grammar

OWN = own_schemas()


def test_there_are_200_schemas_and_no_two_alike():
    assert len(OWN) == len({json.dumps(schema) for _, schema in OWN}) == 200


@pytest.mark.parametrize(("name", "schema"), OWN[::9], ids=[name for name, _ in OWN[::9]])
def test_random_walks_through_what_is_allowed_are_valid(name, schema):
    start = matcher(json_grammar(schema).text)
    walks = [walk(start, Random(f"{name}{i}")) for i in range(3)]
    assert any(found.ended for found in walks)
    assert not any(found.dead for found in walks)
    assert [fault(schema, found.text.decode()) for found in walks if found.ended].count(None) == sum(
        found.ended for found in walks
    )


def test_the_judge_tells_valid_from_invalid():
    schema = {"type": "object", "properties": {"d": {"format": "date"}, "n": {"multipleOf": 0.01}}}
    assert fault(schema, '{"d": "2024-02-29", "n": 0.07}') is None
    assert fault(schema, '{"d": "2023-02-29"}') is not None
    assert fault(schema, '{"n": 0.071}') is not None
    assert fault({}, '{"n": 1e99999999999999999999}') is None
    assert fault({}, '{"n": }') is not None


def test_a_case_counts_where_its_schema_is_kept(tmp_path: Path):
    (tmp_path / "draft7").mkdir()
    tests = [{"data": 3, "valid": True}, {"data": "3", "valid": False}]
    suite = [
        {"description": "kept", "schema": {"type": "integer"}, "tests": tests},
        {"description": "not kept", "schema": {"not": {}}, "tests": tests},
    ]
    (tmp_path / "draft7" / "type.json").write_text(json.dumps(suite))
    files, taken, faults = walk_through(list(cases(tmp_path, ["draft7"])))
    assert faults == []
    assert [asked.name for asked in taken] == ["type: kept"]
    assert files["type"]["invalid"] == 1
    assert files["type"]["invalid taken"] == 0
    assert takes(matcher(json_grammar(True).text), '"3"')
