"""libpoolrank.so through ctypes: just what the benchmarks need. Names follow poolrank/engine.h."""
import ctypes as c


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
        ("n_returned_token_ids", c.c_size_t), ("tokenize_only", c.c_bool),
        ("last_row_only", c.c_bool), ("done", c.c_void_p), ("context", c.c_void_p),
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
        lib.pr_engine_submit.argtypes = [c.c_void_p, c.POINTER(Request), c.POINTER(c.c_void_p),
                                         c.POINTER(Error)]
        lib.pr_engine_wait.argtypes = [c.c_void_p, c.c_void_p, c.POINTER(c.POINTER(Result)),
                                       c.POINTER(Error)]
        self.error = Error()
        handle = lib.pr_options_create()
        for name, value in options.items():
            self.check(lib.pr_options_set(handle, name.replace("_", "-").encode(),
                                          str(value).encode(), self.error))
        self.engine = c.c_void_p()
        self.check(lib.pr_engine_open(handle, self.engine, self.error))
        lib.pr_options_free(handle)

    def check(self, status):
        if status:
            raise RuntimeError(self.error.message.decode())

    def embed(self, texts):
        """Vectors, one a text, and the number of tokens."""
        tickets, vectors, n_tokens = [], [], 0
        request = Request()
        for text in texts:
            self.lib.pr_request_init(c.byref(request))
            data = text.encode()
            request.text, request.n_text = data, len(data)
            ticket = c.c_void_p()
            self.check(self.lib.pr_engine_submit(self.engine, request, ticket, self.error))
            tickets.append(ticket)
        for ticket in tickets:
            result = c.POINTER(Result)()
            self.check(self.lib.pr_engine_wait(self.engine, ticket, result, self.error))
            r = result.contents
            if r.status:
                raise RuntimeError(r.message.decode())
            vectors.append(r.data[: r.n_rows * r.n_columns])
            n_tokens += r.n_prompt_tokens
            self.lib.pr_result_free(result)
        return vectors, n_tokens

    def close(self):
        self.lib.pr_engine_close(self.engine)
