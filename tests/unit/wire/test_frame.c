/* Frames on a byte stream. */
#include "runtime/wire/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void frame_append(pr_buffer *out, const char *payload, size_t n)
{
    size_t place = pr_frame_begin(out);
    pr_buffer_append(out, payload, n);
    assert_int_equal(pr_frame_end(out, place, NULL), PR_OK);
}

static void a_frame_is_its_length_and_its_payload(void **state)
{
    (void)state;
    pr_buffer b;
    pr_buffer_init(&b);
    pr_buffer_append_str(&b, "x");
    frame_append(&b, "abc", 3);
    assert_int_equal(b.n, 8);
    assert_memory_equal(b.data, "x\x03\0\0\0abc", 8);
    pr_buffer_deinit(&b);
}

/* Three frames, in pieces of every size: the same three come out. */
static void frames_come_out_whole_however_they_came_in(void **state)
{
    (void)state;
    char large[300];
    memset(large, 'L', sizeof large);
    pr_buffer stream;
    pr_buffer_init(&stream);
    frame_append(&stream, "one", 3);
    frame_append(&stream, large, sizeof large);
    frame_append(&stream, "3", 1);
    const size_t expected[] = {3, sizeof large, 1};
    for (size_t n_piece = 1; n_piece <= stream.n; n_piece++) {
        pr_frame_reader r;
        pr_frame_reader_init(&r, sizeof large);
        size_t n_frames = 0;
        for (size_t at = 0; at < stream.n; at += n_piece) {
            size_t n = stream.n - at < n_piece ? stream.n - at : n_piece;
            assert_int_equal(pr_frame_reader_feed(&r, stream.data + at, n, NULL), PR_OK);
            for (;;) {
                const char *payload = NULL;
                size_t n_payload = 0;
                assert_int_equal(pr_frame_reader_next(&r, &payload, &n_payload, NULL), PR_OK);
                if (!payload) break;
                assert_int_equal(n_payload, expected[n_frames]);
                assert_int_equal(payload[0], "oL3"[n_frames]);
                n_frames++;
            }
        }
        assert_int_equal(n_frames, 3);
        pr_frame_reader_deinit(&r);
    }
    pr_buffer_deinit(&stream);
}

static void what_was_taken_makes_room(void **state)
{
    (void)state;
    pr_frame_reader r;
    pr_frame_reader_init(&r, 1000);
    char frame[104] = {100};
    for (int i = 0; i < 1000; i++) {
        const char *payload = NULL;
        size_t n = 0;
        assert_int_equal(pr_frame_reader_feed(&r, frame, sizeof frame, NULL), PR_OK);
        assert_int_equal(pr_frame_reader_next(&r, &payload, &n, NULL), PR_OK);
        assert_int_equal(n, 100);
    }
    assert_true(r.bytes.n_max <= 512);
    pr_frame_reader_deinit(&r);
}

static void a_frame_over_the_bound_is_refused_before_its_bytes_come(void **state)
{
    (void)state;
    static const struct {
        unsigned char head[4];
        pr_status status;
        const char *reason;
    } cases[] = {
        {{11, 0, 0, 0}, PR_E_TOO_LARGE, "frame: found 11 bytes, expected at most 10"},
        {{0xFF, 0xFF, 0xFF, 0xFF}, PR_E_TOO_LARGE,
         "frame: found 4294967295 bytes, expected at most 10"},
        {{0, 0, 0, 0}, PR_E_INPUT, "frame of 0 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_frame_reader r;
        pr_frame_reader_init(&r, 10);
        const char *payload = "";
        size_t n = 1;
        pr_error err = {0};
        assert_int_equal(pr_frame_reader_feed(&r, cases[i].head, 4, NULL), PR_OK);
        assert_int_equal(pr_frame_reader_next(&r, &payload, &n, &err), cases[i].status);
        assert_string_equal(err.message, cases[i].reason);
        assert_null(payload);
        assert_int_equal(n, 0);
        pr_frame_reader_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_its_length_and_its_payload),
        cmocka_unit_test(frames_come_out_whole_however_they_came_in),
        cmocka_unit_test(what_was_taken_makes_room),
        cmocka_unit_test(a_frame_over_the_bound_is_refused_before_its_bytes_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
