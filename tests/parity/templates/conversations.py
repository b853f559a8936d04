"""Conversations to render chat templates with, drawn from a random.Random.

The first ones are fixed shapes that every template must see (none, one, many turns; with and without a
system message; tools and their calls; empty texts; contents as lists of parts); the rest are mixed.
"""
import copy

WORDS = ("the answer is forty two because 6 * 7 = 42 Hello World naïve café 你好 世界 مرحبا Ωμέγα ΣΊΣΥΦΟΣ "
         "straße İstanbul 👍🏽 <|im_start|> </think> <b>&amp;</b> \"quoted\" it's {{x}} {%y%} \\n \t end. "
         "\u2028 \u00a0 #tag ~ | None True 3.14 ﬁn").split(" ")
IDS = ["call_1", "abcdefghi", "a1B2c3D4e", "x"]


def text(rng, n=None):
    n = rng.choice([0, 1, 2, 5, 12, 40]) if n is None else n
    joined = rng.choice([" ", " ", "\n", "  "]).join(rng.choice(WORDS) for _ in range(n))
    return rng.choice(["", "", "", "\n", " ", "\n\n"]) + joined + rng.choice(["", "", "", "\n", "  "])


def parts(rng):
    found = []
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        kind = rng.choice(["text", "text", "text", "image", "image_url", "video", "audio"])
        if kind == "text":
            found.append({"type": "text", "text": text(rng)})
        elif kind == "image_url":
            found.append({"type": "image_url", "image_url": {"url": "http://x/y.png"}})
        else:
            found.append({"type": kind} if rng.random() < .7 else {"type": kind, kind: "x." + kind})
    return found


def value(rng, depth=0):
    kind = rng.randrange(8 if depth < 2 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, 1, -7, 2 ** 53, 123456789])
    if kind == 2:
        return rng.choice([0.5, 1e-7, 1e16, -2.0, 123.456, 1e22, 3.0])
    if kind < 6:
        return text(rng, rng.choice([0, 1, 3]))
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["a", "b", "zwei", "名", "city"]): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def arguments(rng):
    return {rng.choice(["city", "n", "flag", "unit", "items", "Größe"]): value(rng)
            for _ in range(rng.randrange(4))}


def tool(rng, i):
    properties = {"city": {"type": "string", "description": text(rng, 4)},
                  "unit": {"type": "string", "enum": ["C", "F"]},
                  "n": {"type": rng.choice(["integer", "number", ["integer", "null"]]), "default": 3}}
    function = {"name": "tool_%d" % i, "description": text(rng, 6),
                "parameters": {"type": "object", "properties": properties, "required": ["city"]}}
    if rng.random() < .1:
        function["parameters"] = {"type": "object", "properties": {}}
    if rng.random() < .1:
        function["return"] = {"type": "string", "description": "what it is"}
    return function if rng.random() < .08 else {"type": "function", "function": function}


def tool_calls(rng, n=None):
    import json
    found = []
    for _ in range(rng.choice([1, 1, 2]) if n is None else n):
        given = arguments(rng)
        function = {"name": "tool_0", "arguments": json.dumps(given) if rng.random() < .3 else given}
        call = {"type": "function", "function": function}
        if rng.random() < .8:
            call["id"] = rng.choice(IDS)
        found.append(call if rng.random() < .93 else function)
    return found


def answer(rng):
    message = {"role": "assistant", "content": text(rng)}
    if rng.random() < .3:
        message["content"] = rng.choice(["<think>\n%s\n</think>\n\n%s", "<think>%s</think>%s", "%s</think>%s"]) % (
            text(rng, 3), text(rng, 5))
    if rng.random() < .15:
        message["reasoning_content"] = text(rng)
    if rng.random() < .05:
        message["reasoning"] = text(rng)
    if rng.random() < .05:
        message["thinking"] = text(rng)
    return message


def conversation(rng):
    messages = []
    if rng.random() < .4:
        role = rng.choice(["system", "system", "system", "developer"])
        messages.append({"role": role, "content": text(rng) if rng.random() < .85 else parts(rng)})
    for _ in range(rng.choice([0, 1, 1, 2, 3, 6])):
        messages.append({"role": "user", "content": text(rng) if rng.random() < .8 else parts(rng)})
        if rng.random() < .25:
            call = {"role": "assistant", "tool_calls": tool_calls(rng)}
            if rng.random() < .8:
                call["content"] = rng.choice(["", None, text(rng, 3)])
            messages.append(call)
            for made in call["tool_calls"]:
                answered = {"role": rng.choice(["tool", "tool", "tool", "ipython", "function"]),
                            "content": rng.choice([text(rng, 4), value(rng), parts(rng), '{"a": 1}'])}
                if rng.random() < .6:
                    answered["name"] = "tool_0"
                if rng.random() < .6:
                    answered["tool_call_id"] = made.get("id", "x")
                messages.append(answered)
        if rng.random() < .8:
            messages.append(answer(rng))
    if rng.random() < .6 and messages and messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": text(rng, 3)})
    if rng.random() < .08 and messages:
        messages.insert(rng.randrange(len(messages)), {"role": rng.choice(["weird", "user", "system"]),
                                                       "content": rng.choice([text(rng), None])})
    return messages


def variables(rng, messages):
    found = {"messages": messages, "tools": None, "documents": None,
             "add_generation_prompt": rng.random() < .5}
    if rng.random() < .35:
        found["tools"] = [tool(rng, i) for i in range(rng.choice([0, 1, 1, 2]))]
    if rng.random() < .12:
        found["documents"] = [{"title": text(rng, 2), "text": text(rng, 8)} for _ in range(rng.choice([0, 1, 2]))]
    for name, given in [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"),
                        ("pad_token", "<pad>")]:
        if rng.random() < .85:
            found[name] = given
    for name, choices in [("enable_thinking", [True, False]), ("thinking", [True, False]),
                          ("reasoning_effort", ["low", "high"]), ("date_string", ["26 Jul 2024"]),
                          ("tools_in_user_message", [True, False]), ("model_identity", ["I am."]),
                          ("builtin_tools", [["browser", "python"], ["code_interpreter"]]),
                          ("strip_thinking", [False]), ("add_vision_id", [True]), ("clear_thinking", [False]),
                          ("keep_past_thinking", [True]), ("preserve_thinking", [True]),
                          ("citation_mode", ["accurate"]), ("custom_tools", [[]])]:
        if rng.random() < .1:
            found[name] = rng.choice(choices)
    return found


def user(content):
    return {"role": "user", "content": content}


def fixed(rng):
    """Shapes that every template must see."""
    ask, said = user("What is 6 * 7?"), {"role": "assistant", "content": "42."}
    system = {"role": "system", "content": "Be brief."}
    call = {"role": "assistant", "content": "", "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "tool_0", "arguments": {"city": "Köln", "n": 2}}}]}
    told = {"role": "tool", "tool_call_id": "call_1", "name": "tool_0", "content": '{"t": 21.5}'}
    text_part = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    tools = [tool(rng, 0)]
    shapes = [[], [ask], [system, ask], [ask, said], [system, ask, said, user("And 7 * 7?")],
              [ask, said] * 6 + [ask], [user("")], [user("你好 👍🏽 Ωmega\n")], [user(text_part)],
              [system, user(text_part), {"role": "assistant", "content": [{"type": "text", "text": "x"}]}],
              [system], [said], [ask, call, told, said, ask], [system, ask, call, told]]
    cases = [{"messages": shape, "tools": None} for shape in shapes]
    cases += [{"messages": shape, "tools": tools} for shape in (shapes[1], shapes[2], shapes[12], shapes[13])]
    cases.append({"messages": shapes[4], "tools": None, "documents": [{"title": "T", "text": "D"}]})
    return cases


def case(rng, i):
    """Case i of a template: the fixed shapes first, then drawn ones."""
    shapes = fixed(rng)
    if i >= 2 * len(shapes):
        return variables(rng, conversation(rng))
    shape = copy.deepcopy(shapes[i % len(shapes)])
    shape.setdefault("documents", None)
    shape.update(add_generation_prompt=i < len(shapes), bos_token="<s>", eos_token="</s>")
    return shape
