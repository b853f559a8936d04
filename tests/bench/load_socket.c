#include "tests/bench/load_protocol.h"

static bool prepare(const load_shape *shape, load_body *body)
{
    (void)shape;
    (void)body;
    return false;
}

const load_protocol load_socket = {.has_ids = true, .prepare = prepare};
