"""libpoolrank.so through ctypes, for benchmarks and comparisons. Names follow poolrank/engine.h."""
import ctypes as c
from collections import namedtuple

TASKS = ("auto", "embed", "classify", "score", "reward")  # pr_task
Answer = namedtuple("Answer", "data n_rows n_columns n_prompt_tokens tokens")


class Error(c.Structure):
    _fields_ = [("status", c.c_int), ("message", c.c_char * 1024)]


class Request(c.Structure):
    _fields_ = [
        ("struct_bytes", c.c_size_t), ("task", c.c_int), ("text", c.c_char_p),
        ("n_text", c.c_size_t), ("text_pair", c.c_char_p), ("n_text_pair", c.c_size_t),
        ("tokens", c.c_void_p), ("n_tokens", c.c_size_t), ("truncate_prompt_tokens", c.c_int32),
        ("truncation_side", c.c_int8), ("add_special_tokens", c.c_int8), ("normalize", c.c_int8),
        ("softmax", c.c_int8), ("use_activation", c.c_int8), ("dimensions", c.c_int32),
        ("step_tag_id", c.c_int32), ("returned_token_ids", c.c_void_p),
        ("n_returned_token_ids", c.c_size_t), ("priority", c.c_int32), ("timeout_ms", c.c_uint32),
        ("tokenize_only", c.c_bool),
        ("last_row_only", c.c_bool), ("cache_salt", c.c_uint64), ("done", c.c_void_p), ("context", c.c_void_p),
        ("messages", c.c_char_p), ("n_messages", c.c_size_t),
    ]


class Result(c.Structure):
    _fields_ = [
        ("status", c.c_int), ("message", c.c_char_p), ("n_prompt_tokens", c.c_uint32),
        ("n_rows", c.c_uint32), ("n_columns", c.c_uint32), ("data", c.POINTER(c.c_float)),
        ("is_token_wise", c.c_bool), ("tokens", c.POINTER(c.c_int32)),
    ]


class Engine:
    """An engine that is opened once and asked for many texts."""

    def __init__(self, library, **options):
        self.lib = lib = c.CDLL(library)
        lib.pr_options_create.restype = c.c_void_p
        lib.pr_options_set.argtypes = [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(Error)]
        lib.pr_options_free.argtypes = [c.c_void_p]
        lib.pr_engine_open.argtypes = [c.c_void_p, c.POINTER(c.c_void_p), c.POINTER(Error)]
        lib.pr_engine_close.argtypes = [c.c_void_p]
        lib.pr_result_free.argtypes = [c.c_void_p]
        lib.pr_request_init_size.argtypes = [c.c_void_p, c.c_size_t]
        lib.pr_engine_submit.argtypes = [c.c_void_p, c.POINTER(Request), c.POINTER(c.c_void_p),
                                         c.POINTER(Error)]
        lib.pr_engine_wait.argtypes = [c.c_void_p, c.c_void_p, c.POINTER(c.POINTER(Result)),
                                       c.POINTER(Error)]
        self.error = Error()
        handle = lib.pr_options_create()
        self.engine = c.c_void_p()
        try:
            for name, value in options.items():
                self.check(lib.pr_options_set(handle, name.replace("_", "-").encode(),
                                              str(value).encode(), self.error))
            self.check(lib.pr_engine_open(handle, self.engine, self.error))
        finally:
            lib.pr_options_free(handle)

    def check(self, status):
        if status:
            raise RuntimeError(self.error.message.decode())

    def submit(self, **fields):
        """Queues a request; fields are those of pr_request, text as str, ids as lists."""
        request = Request()
        self.lib.pr_request_init_size(c.byref(request), c.sizeof(request))
        for name, value in fields.items():
            if name in ("text", "text_pair"):
                data = value.encode()
                setattr(request, name, data)
                setattr(request, "n_" + name, len(data))
            elif name in ("tokens", "returned_token_ids"):
                setattr(request, name, c.cast((c.c_int32 * len(value))(*value), c.c_void_p))
                setattr(request, "n_" + name, len(value))
            elif name == "task":
                request.task = TASKS.index(value)
            else:
                setattr(request, name, value)
        ticket = c.c_void_p()
        self.check(self.lib.pr_engine_submit(self.engine, request, ticket, self.error))
        return ticket

    def wait(self, ticket):
        """An Answer; raises RuntimeError with the message of a request that failed."""
        result = c.POINTER(Result)()
        self.check(self.lib.pr_engine_wait(self.engine, ticket, result, self.error))
        r = result.contents
        try:
            if r.status:
                raise RuntimeError(r.message.decode())
            data = r.data[: r.n_rows * r.n_columns] if r.data else []
            tokens = r.tokens[: r.n_prompt_tokens] if r.tokens else []
            return Answer(data, r.n_rows, r.n_columns, r.n_prompt_tokens, tokens)
        finally:
            self.lib.pr_result_free(result)

    def ask(self, **fields):
        """One request, alone."""
        return self.wait(self.submit(**fields))

    def embed(self, texts):
        """Vectors, one a text, and the number of tokens."""
        tickets = [self.submit(text=text) for text in texts]
        answers = [self.wait(ticket) for ticket in tickets]
        return [a.data for a in answers], sum(a.n_prompt_tokens for a in answers)

    def close(self):
        self.lib.pr_engine_close(self.engine)
