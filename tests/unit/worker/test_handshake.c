/* The handshake of a control connection, without sockets. */
#include "worker/handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static pr_key key_of(char c)
{
    pr_key key = {.n = 32};
    memset(key.bytes, c, key.n);
    return key;
}

static pr_control_hello hello_of(uint8_t nonce)
{
    pr_control_hello h = {.protocol = PR_CONTROL_PROTOCOL, .version = "0.1.0", .group = "X",
                          .rank = 1, .n_ranks = 2, .host = "node3", .pid = 4711};
    memset(h.nonce, nonce, sizeof h.nonce);
    return h;
}

/* One connection: both sides, and the last message each has sent. */
typedef struct pair {
    pr_key host_key, join_key;
    pr_handshake_host host;
    pr_handshake_join join;
    pr_control_message from_host, from_join;
    bool has_reply;
    pr_error err;
} pair;

static void pair_init(pair *p, const pr_control_hello *hello, uint8_t host_nonce)
{
    uint8_t nonce[PR_NONCE_BYTES];
    memset(nonce, host_nonce, sizeof nonce);
    *p = (pair){.host_key = key_of('a'), .join_key = key_of('a')};
    pr_handshake_host_init(&p->host, &p->host_key, "0.1.0", nonce);
    pr_handshake_join_begin(&p->join, &p->join_key, hello, &p->from_join);
}

static pr_status to_host(pair *p)
{
    return pr_handshake_host_feed(&p->host, &p->from_join, &p->from_host, &p->has_reply, &p->err);
}

static pr_status to_join(pair *p)
{
    return pr_handshake_join_feed(&p->join, &p->from_host, &p->from_join, &p->err);
}

static void assert_refused(const pair *p, pr_status status, const char *reason)
{
    assert_int_equal(p->host.state, PR_HANDSHAKE_REFUSED);
    assert_true(p->has_reply);
    assert_int_equal(p->from_host.kind, PR_CONTROL_REFUSE);
    assert_int_equal(p->from_host.reason.status, status);
    assert_string_equal(p->from_host.reason.message, reason);
    assert_string_equal(p->err.message, reason);
}

static void both_sides_with_the_key_accept_each_other(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    pair p;
    pair_init(&p, &hello, 2);
    assert_int_equal(to_host(&p), PR_OK);
    assert_true(p.has_reply);
    assert_int_equal(p.from_host.kind, PR_CONTROL_CHALLENGE);
    assert_int_equal(to_join(&p), PR_OK);
    assert_int_equal(p.from_join.kind, PR_CONTROL_PROOF);
    assert_int_equal(to_host(&p), PR_OK);
    assert_false(p.has_reply);
    assert_int_equal(p.host.state, PR_HANDSHAKE_ACCEPTED);
    assert_int_equal(p.join.state, PR_HANDSHAKE_ACCEPTED);
    assert_string_equal(p.host.hello.host, "node3");
}

static void a_rank_does_not_prove_itself_to_a_coordinator_with_another_key(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    pair p;
    pair_init(&p, &hello, 2);
    p.host_key = key_of('b');
    assert_int_equal(to_host(&p), PR_OK);
    assert_int_equal(to_join(&p), PR_E_ARGUMENT);
    assert_int_equal(p.join.state, PR_HANDSHAKE_REFUSED);
    assert_int_equal(p.from_join.kind, PR_CONTROL_HELLO);
    assert_string_equal(p.err.message, "the coordinator's cluster key is another than that of "
                                       "rank 1 of group X");
}

static void a_rank_with_another_key_is_refused(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    pair p;
    pair_init(&p, &hello, 2);
    assert_int_equal(to_host(&p), PR_OK);
    pr_key wrong = key_of('b'); /* a rank that does not look at the coordinator's proof */
    char identity[PR_CONTROL_IDENTITY_BYTES];
    size_t n = pr_control_identity(&hello, identity);
    p.from_join = (pr_control_message){.kind = PR_CONTROL_PROOF};
    pr_auth_prove(&wrong, PR_AUTH_INITIATOR, hello.nonce, p.from_host.challenge.nonce, identity, n,
                  p.from_join.proof);
    assert_int_equal(to_host(&p), PR_E_ARGUMENT);
    assert_refused(&p, PR_E_ARGUMENT, "rank 1 of group X on node3: its cluster key is another than "
                                      "the coordinator's");
}

static void the_coordinators_own_proof_sent_back_is_refused(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    pair p;
    pair_init(&p, &hello, 1); /* even when both nonces are the same */
    assert_int_equal(to_host(&p), PR_OK);
    p.from_join = (pr_control_message){.kind = PR_CONTROL_PROOF};
    memcpy(p.from_join.proof, p.from_host.challenge.proof, PR_PROOF_BYTES);
    assert_int_equal(to_host(&p), PR_E_ARGUMENT);
    assert_int_equal(p.host.state, PR_HANDSHAKE_REFUSED);
}

/* Somebody recorded a whole handshake and plays the rank's part again. */
static void a_replayed_handshake_is_refused(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    pair p;
    pair_init(&p, &hello, 2);
    pr_control_message old_hello = p.from_join;
    to_host(&p);
    to_join(&p);
    pr_control_message old_proof = p.from_join;
    pair again;
    pair_init(&again, &hello, 3);
    again.from_join = old_hello;
    assert_int_equal(to_host(&again), PR_OK);
    again.from_join = old_proof;
    assert_int_equal(to_host(&again), PR_E_ARGUMENT);
    assert_int_equal(again.host.state, PR_HANDSHAKE_REFUSED);
}

/* Somebody recorded a coordinator's part; the rank's nonce is fresh. */
static void a_replayed_challenge_is_refused(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    pair p;
    pair_init(&p, &hello, 2);
    to_host(&p);
    pr_control_message old_challenge = p.from_host;
    pr_control_hello fresh = hello_of(9);
    pair again;
    pair_init(&again, &fresh, 2);
    again.from_host = old_challenge;
    assert_int_equal(to_join(&again), PR_E_ARGUMENT);
}

/* Each named field of a HELLO is covered by both proofs. */
static void a_proof_of_another_identity_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        pr_control_hello hello = hello_of(1), other = hello;
        if (i == 0) other.rank = 0;
        if (i == 1) other.n_ranks = 3;
        if (i == 2) strcpy(other.group, "Y");
        if (i == 3) strcpy(other.host, "node4");
        if (i == 4) other.pid++;
        pair p;
        pair_init(&p, &hello, 2);
        p.from_join.hello = other; /* changed on the way */
        assert_int_equal(to_host(&p), PR_OK);
        assert_int_equal(to_join(&p), PR_E_ARGUMENT); /* the rank sees it first */
        char identity[PR_CONTROL_IDENTITY_BYTES];
        size_t n = pr_control_identity(&hello, identity);
        p.from_join = (pr_control_message){.kind = PR_CONTROL_PROOF};
        pr_auth_prove(&p.join_key, PR_AUTH_INITIATOR, hello.nonce, p.from_host.challenge.nonce,
                      identity, n, p.from_join.proof);
        assert_int_equal(to_host(&p), PR_E_ARGUMENT);
    }
}

static void a_hello_that_cannot_be_served_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        int change;
        pr_status status;
        const char *reason;
    } cases[] = {
        {0, PR_E_UNSUPPORTED, "rank 1 of group X: poolrank 0.0.9, expected 0.1.0"},
        {1, PR_E_UNSUPPORTED, "a rank of poolrank 0.1.0: control protocol 1, expected 2 (poolrank "
                              "0.1.0)"},
        {2, PR_E_ARGUMENT, "rank 2 of group X: expected a rank below 2"},
        {3, PR_E_ARGUMENT, "rank 1 of group X: found 0 ranks, expected 1 to 4096"},
        {4, PR_E_ARGUMENT, "rank 1 of group X: found 4097 ranks, expected 1 to 4096"},
        {5, PR_E_ARGUMENT, "rank 1 on node3: no name of a group"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_control_hello hello = hello_of(1);
        if (cases[i].change == 0) strcpy(hello.version, "0.0.9");
        if (cases[i].change == 1) hello.protocol = 1;
        if (cases[i].change == 2) hello.rank = 2;
        if (cases[i].change == 3) hello.n_ranks = 0;
        if (cases[i].change == 4) hello.n_ranks = PR_CONTROL_RANKS_MAX + 1;
        if (cases[i].change == 5) hello.group[0] = '\0';
        pair p;
        pair_init(&p, &hello, 2);
        assert_int_equal(to_host(&p), cases[i].status);
        assert_refused(&p, cases[i].status, cases[i].reason);
        assert_int_equal(to_join(&p), cases[i].status);
        char expected[PR_ERROR_BYTES];
        snprintf(expected, sizeof expected, "refused by the coordinator: %s", cases[i].reason);
        assert_string_equal(p.err.message, expected);
    }
}

static void a_message_out_of_order_is_refused(void **state)
{
    (void)state;
    pr_control_hello hello = hello_of(1);
    for (int kind = 0; kind < PR_CONTROL_KIND_COUNT; kind++) {
        pair p;
        pair_init(&p, &hello, 2);
        pr_control_message good = p.from_join;
        if (kind != PR_CONTROL_HELLO) {
            p.from_join = (pr_control_message){.kind = (pr_control_kind)kind};
            assert_int_equal(to_host(&p), PR_E_INPUT);
            assert_int_equal(p.from_host.kind, PR_CONTROL_REFUSE);
        }
        pair_init(&p, &hello, 2);
        p.from_join = good;
        assert_int_equal(to_host(&p), PR_OK);
        if (kind != PR_CONTROL_PROOF) {
            p.from_join = (pr_control_message){.kind = (pr_control_kind)kind};
            assert_int_equal(to_host(&p), PR_E_INPUT);
            assert_int_equal(p.host.state, PR_HANDSHAKE_REFUSED);
        }
        if (kind != PR_CONTROL_CHALLENGE && kind != PR_CONTROL_REFUSE) {
            p.from_host = (pr_control_message){.kind = (pr_control_kind)kind};
            assert_int_equal(to_join(&p), PR_E_INPUT);
            assert_int_equal(p.join.state, PR_HANDSHAKE_REFUSED);
        }
    }
}

/* "ab" + "c" and "a" + "bc" are two groups and hosts. */
static void no_two_hellos_have_the_same_identity(void **state)
{
    (void)state;
    pr_control_hello a = hello_of(1), b = a;
    strcpy(a.version, "ab");
    strcpy(a.group, "c");
    strcpy(b.version, "a");
    strcpy(b.group, "bc");
    char one[PR_CONTROL_IDENTITY_BYTES], two[PR_CONTROL_IDENTITY_BYTES];
    size_t n = pr_control_identity(&a, one);
    assert_int_equal(pr_control_identity(&b, two), n);
    assert_memory_not_equal(one, two, n);
    memset(a.version, 'v', sizeof a.version - 1); /* the longest names fit */
    memset(a.group, 'g', sizeof a.group - 1);
    memset(a.host, 'h', sizeof a.host - 1);
    assert_true(pr_control_identity(&a, one) <= sizeof one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_with_the_key_accept_each_other),
        cmocka_unit_test(a_rank_does_not_prove_itself_to_a_coordinator_with_another_key),
        cmocka_unit_test(a_rank_with_another_key_is_refused),
        cmocka_unit_test(the_coordinators_own_proof_sent_back_is_refused),
        cmocka_unit_test(a_replayed_handshake_is_refused),
        cmocka_unit_test(a_replayed_challenge_is_refused),
        cmocka_unit_test(a_proof_of_another_identity_is_refused),
        cmocka_unit_test(a_hello_that_cannot_be_served_is_refused_with_the_reason),
        cmocka_unit_test(a_message_out_of_order_is_refused),
        cmocka_unit_test(no_two_hellos_have_the_same_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
