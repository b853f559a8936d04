"""The few words of JSON Schema that schemas/http.json is written in. An object may have no property
that its schema does not name; "$ref" names another schema of the file."""
import re

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
         "null": type(None), "boolean": bool}
WORDS = {"type", "required", "properties", "items", "minItems", "minLength", "minimum", "pattern",
         "const", "enum", "anyOf", "$ref"}


def _is_type(value, name):
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, TYPES[name])


def check(value, schema, schemas, where="answer"):
    """Raises AssertionError that says where the value does not fit."""
    assert set(schema) <= WORDS, "unknown words in the schema: %s" % (set(schema) - WORDS)
    if "$ref" in schema:
        return check(value, schemas[schema["$ref"]], schemas, where)
    if "anyOf" in schema:
        reasons = []
        for one in schema["anyOf"]:
            try:
                return check(value, one, schemas, where)
            except AssertionError as e:
                reasons.append(str(e))
        raise AssertionError("%s: fits none: %s" % (where, "; ".join(reasons)))
    if "const" in schema:
        assert value == schema["const"] and type(value) is type(schema["const"]), \
            "%s: found %r, expected %r" % (where, value, schema["const"])
    if "enum" in schema:
        assert value in schema["enum"], "%s: found %r" % (where, value)
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(_is_type(value, n) for n in names), "%s: %r is no %s" % (where, value, names)
    if isinstance(value, dict):
        for key in schema.get("required", []):
            assert key in value, "%s: %s is missing" % (where, key)
        for key, one in value.items():
            assert key in schema.get("properties", {}), "%s: %s is unknown" % (where, key)
            check(one, schema["properties"][key], schemas, where + "." + key)
    if isinstance(value, list):
        assert len(value) >= schema.get("minItems", 0), "%s: too short" % where
        for i, one in enumerate(value):
            check(one, schema.get("items", {}), schemas, "%s[%d]" % (where, i))
    if isinstance(value, str):
        assert len(value) >= schema.get("minLength", 0), "%s: too short" % where
        if "pattern" in schema:
            assert re.search(schema["pattern"], value), "%s: found %r" % (where, value)
    if _is_type(value, "number") and "minimum" in schema:
        assert value >= schema["minimum"], "%s: found %r" % (where, value)
