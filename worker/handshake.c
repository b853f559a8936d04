#include "worker/handshake.h"

#include <assert.h>
#include <string.h>

static void prove(const pr_key *key, pr_auth_role role, const pr_control_hello *hello,
                  const uint8_t nonce_r[PR_NONCE_BYTES], uint8_t proof[PR_PROOF_BYTES])
{
    char identity[PR_CONTROL_IDENTITY_BYTES];
    size_t n = pr_control_identity(hello, identity);
    pr_auth_prove(key, role, hello->nonce, nonce_r, identity, n, proof);
}

static pr_status out_of_order(const pr_control_message *message, const char *expected,
                              pr_error *err)
{
    return pr_error_set(err, PR_E_INPUT, "control connection: found %s, expected %s",
                        pr_control_kind_name(message->kind), expected);
}

void pr_handshake_host_init(pr_handshake_host *h, const pr_key *key, const char *version,
                            const uint8_t nonce[PR_NONCE_BYTES])
{
    *h = (pr_handshake_host){.key = key, .version = version};
    memcpy(h->nonce, nonce, sizeof h->nonce);
}

static pr_status hello_take(pr_handshake_host *h, const pr_control_message *message,
                            pr_control_message *reply, pr_error *err)
{
    if (message->kind != PR_CONTROL_HELLO) return out_of_order(message, "HELLO", err);
    pr_status st = pr_control_hello_check(&message->hello, h->version, err);
    if (st != PR_OK) return st;
    h->hello = message->hello;
    *reply = (pr_control_message){.kind = PR_CONTROL_CHALLENGE};
    memcpy(reply->challenge.nonce, h->nonce, sizeof h->nonce);
    prove(h->key, PR_AUTH_RESPONDER, &h->hello, h->nonce, reply->challenge.proof);
    h->state = PR_HANDSHAKE_ASKED;
    return PR_OK;
}

static pr_status proof_take(pr_handshake_host *h, const pr_control_message *message, pr_error *err)
{
    if (message->kind != PR_CONTROL_PROOF) return out_of_order(message, "PROOF", err);
    uint8_t expected[PR_PROOF_BYTES];
    prove(h->key, PR_AUTH_INITIATOR, &h->hello, h->nonce, expected);
    if (!pr_proof_equal(expected, message->proof)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "rank %u of group %s on %s: its cluster key is another than the "
                            "coordinator's",
                            h->hello.rank, h->hello.group, h->hello.host);
    }
    h->state = PR_HANDSHAKE_ACCEPTED;
    return PR_OK;
}

pr_status pr_handshake_host_feed(pr_handshake_host *h, const pr_control_message *message,
                                 pr_control_message *reply, bool *has_reply, pr_error *err)
{
    assert(h->state == PR_HANDSHAKE_NEW || h->state == PR_HANDSHAKE_ASKED);
    bool is_new = h->state == PR_HANDSHAKE_NEW;
    pr_error why = {0};
    pr_status st = is_new ? hello_take(h, message, reply, &why) : proof_take(h, message, &why);
    *has_reply = is_new || st != PR_OK;
    if (st == PR_OK) return PR_OK;
    h->state = PR_HANDSHAKE_REFUSED;
    *reply = (pr_control_message){.kind = PR_CONTROL_REFUSE, .reason = {.status = st}};
    memcpy(reply->reason.message, why.message, sizeof why.message);
    return pr_error_set(err, st, "%s", why.message);
}

void pr_handshake_join_begin(pr_handshake_join *h, const pr_key *key,
                             const pr_control_hello *hello, pr_control_message *message)
{
    *h = (pr_handshake_join){.key = key, .hello = *hello};
    *message = (pr_control_message){.kind = PR_CONTROL_HELLO, .hello = *hello};
}

pr_status pr_control_reason_error(const pr_control_message *message, pr_error *err)
{
    const pr_control_reason *r = &message->reason;
    assert(message->kind == PR_CONTROL_REFUSE || message->kind == PR_CONTROL_FAILED ||
           message->kind == PR_CONTROL_ABORT);
    return pr_error_set(err, r->status, "%s", r->message);
}

static pr_status challenge_take(pr_handshake_join *h, const pr_control_message *message,
                                pr_control_message *reply, pr_error *err)
{
    if (message->kind == PR_CONTROL_REFUSE) {
        pr_status st = pr_control_reason_error(message, err);
        return pr_error_context(err, st, "refused by the coordinator");
    }
    if (message->kind != PR_CONTROL_CHALLENGE) {
        return out_of_order(message, "CHALLENGE or REFUSE", err);
    }
    const pr_control_challenge *c = &message->challenge;
    uint8_t expected[PR_PROOF_BYTES];
    prove(h->key, PR_AUTH_RESPONDER, &h->hello, c->nonce, expected);
    if (!pr_proof_equal(expected, c->proof)) {
        return pr_error_set(err, PR_E_ARGUMENT,
                            "the coordinator's cluster key is another than that of rank %u of "
                            "group %s",
                            h->hello.rank, h->hello.group);
    }
    *reply = (pr_control_message){.kind = PR_CONTROL_PROOF};
    prove(h->key, PR_AUTH_INITIATOR, &h->hello, c->nonce, reply->proof);
    return PR_OK;
}

pr_status pr_handshake_join_feed(pr_handshake_join *h, const pr_control_message *message,
                                 pr_control_message *reply, pr_error *err)
{
    assert(h->state == PR_HANDSHAKE_NEW);
    pr_status st = challenge_take(h, message, reply, err);
    h->state = st == PR_OK ? PR_HANDSHAKE_ACCEPTED : PR_HANDSHAKE_REFUSED;
    return st;
}
