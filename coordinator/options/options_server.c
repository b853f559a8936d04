#include "coordinator/options/options_table.h"

#include "coordinator/options/config.h"

#define FIELD(name) ((int)offsetof(pr_config, name))
#define SERVER .group = PR_OPTION_GROUP_SERVER, .commands = PR_COMMAND_SERVE

/* Options of vLLM's server (vllm/entrypoints/openai/cli_args.py of 0.8.5) that have no meaning
 * here: without effect, or refused. */
#define VLLM                                                                                       \
    .group = PR_OPTION_GROUP_VLLM, .commands = PR_COMMAND_SERVE, .field = PR_OPTION_NO_FIELD,      \
    .min = INT32_MIN, .max = INT32_MAX
#define IDLE(...) PR_OPTION_ROW_IDLE(VLLM, __VA_ARGS__)
#define NEVER(...) PR_OPTION_ROW_NEVER(VLLM, __VA_ARGS__)
#define NO_GENERATION PR_OPTION_NO_GENERATION

/* Rows stand in the order of help. */
const pr_option_row pr_option_rows_server[] = {
    /* ---- where it listens ---- */
    {SERVER, .name = "host", .kind = PR_OPTION_TEXT, .metavar = "ADDRESS", .initial = "127.0.0.1",
     .field = FIELD(host), .help = "Address that HTTP listens on; 0.0.0.0 or :: for all."},
    {SERVER, .name = "port", .kind = PR_OPTION_INT, .metavar = "PORT", .initial = "8000", .min = 0,
     .max = 65535, .field = FIELD(port),
     .help = "Port that HTTP listens on; 0: one that is free (--port-file tells which)."},
    {SERVER, .name = "uds", .kind = PR_OPTION_TEXT, .metavar = "PATH", .field = FIELD(uds),
     .help = "Unix socket that HTTP listens on, in place of host and port."},
    {SERVER, .name = "port-file", .kind = PR_OPTION_TEXT, .metavar = "FILE",
     .field = FIELD(port_file),
     .help = "JSON file that the ports are written to once all listeners are open."},
    {SERVER, .name = "socket", .kind = PR_OPTION_TEXT, .metavar = "ADDRESS",
     .initial_words = "none", .field = FIELD(socket),
     .help = "Where the socket protocol listens: tcp://HOST:PORT or unix:///PATH."},
    {SERVER, .name = "metrics-port", .kind = PR_OPTION_INT, .metavar = "PORT", .initial = "-1",
     .initial_words = "none", .min = -1, .max = 65535, .field = FIELD(metrics_port),
     .help = "Further port that answers GET /metrics, without a key; 0: one that is free."},
    {SERVER, .name = "metrics-host", .kind = PR_OPTION_TEXT, .metavar = "ADDRESS",
     .initial = "127.0.0.1", .field = FIELD(metrics_host),
     .help = "Address that the metrics' port listens on."},

    /* ---- who may use it ---- */
    {SERVER, .name = "api-key", .kind = PR_OPTION_TEXT, .metavar = "KEY", .field = FIELD(api_key),
     .help = "Key that clients must send. Whoever may list processes sees it: prefer "
             "--api-key-file, or POOLRANK_API_KEY."},
    {SERVER, .name = "api-key-file", .kind = PR_OPTION_TEXT, .metavar = "FILE",
     .field = FIELD(api_key_file),
     .help = "File of mode 0600 with a line name:key for each client; SIGHUP reads it again."},
    {SERVER, .name = "ssl-certfile", .kind = PR_OPTION_TEXT, .metavar = "FILE",
     .field = FIELD(ssl_certfile),
     .help = "Certificate chain (PEM): HTTP and the socket's TCP then speak TLS only; SIGHUP reads "
             "it again."},
    {SERVER, .name = "ssl-keyfile", .kind = PR_OPTION_TEXT, .metavar = "FILE",
     .field = FIELD(ssl_keyfile), .help = "Private key of the certificate (PEM)."},
    {SERVER, .name = "insecure-socket", .kind = PR_OPTION_SWITCH, .field = FIELD(insecure_socket),
     .help = "The socket protocol may listen on TCP off loopback without TLS."},
    {SERVER, .name = "allowed-origins", .kind = PR_OPTION_LIST, .metavar = "ORIGIN",
     .initial_words = "none", .field = FIELD(allowed_origins),
     .help = "Origins whose pages may call the server (CORS): several options or commas; * for "
             "all."},

    /* ---- what it takes ---- */
    {SERVER, .name = "allow-token-input", .kind = PR_OPTION_SWITCH,
     .field = FIELD(allow_token_input),
     .help = "Token ids are taken in place of texts over HTTP. Some clients send ids of another "
             "model's vocabulary by default; so they are refused unless asked for."},
    {SERVER, .name = "max-client-batch-size", .kind = PR_OPTION_INT, .metavar = "N",
     .initial = "2048", .min = 1, .max = 1 << 20, .field = FIELD(max_client_batch_size),
     .help = "Texts, or documents, of one request."},
    {SERVER, .name = "max-body-bytes", .kind = PR_OPTION_INT, .metavar = "BYTES", .initial = "64M",
     .min = 1024, .max = INT32_MAX, .field = FIELD(max_body_bytes),
     .help = "Longest body of a request, and longest frame of the socket protocol."},
    {SERVER, .name = "max-response-bytes", .kind = PR_OPTION_INT, .metavar = "BYTES",
     .initial = "512M", .min = 1024, .max = INT32_MAX, .field = FIELD(max_response_bytes),
     .help = "Most that the numbers of one answer may take, as float32."},
    {SERVER, .name = "max-connections", .kind = PR_OPTION_INT, .metavar = "N", .initial = "16384",
     .min = 1, .max = 1 << 20, .field = FIELD(max_connections), .help = "Open connections."},
    {SERVER, .name = "read-timeout", .kind = PR_OPTION_INT, .metavar = "SECONDS", .initial = "60",
     .min = 1, .max = 1 << 20, .field = FIELD(read_timeout),
     .help = "How long a request may take to arrive whole."},
    {SERVER, .name = "idle-timeout", .kind = PR_OPTION_INT, .metavar = "SECONDS", .initial = "300",
     .min = 1, .max = 1 << 20, .field = FIELD(idle_timeout),
     .help = "How long a connection may wait for its next request."},
    {SERVER, .name = "request-timeout", .kind = PR_OPTION_INT, .metavar = "SECONDS", .initial = "0",
     .initial_words = "none", .min = 0, .max = 1 << 20, .field = FIELD(request_timeout),
     .help = "How long a request may take to be answered; one may ask for less (timeout)."},
    {SERVER, .name = "queue-timeout", .kind = PR_OPTION_INT, .metavar = "SECONDS", .initial = "150",
     .min = 0, .max = 1 << 20, .field = FIELD(queue_timeout),
     .help = "How long /get_reward waits for room in a full queue before it answers 429; other "
             "routes do so at once."},
    {SERVER, .name = "drain-delay", .kind = PR_OPTION_INT, .metavar = "SECONDS", .initial = "0",
     .min = 0, .max = 1 << 20, .field = FIELD(drain_delay),
     .help = "After SIGTERM, how long requests are still accepted while readiness is 503 already: "
             "as long as a load balancer takes to notice."},

    /* ---- of vLLM's server ---- */
    IDLE("uvicorn-log-level", TEXT, "LEVEL", "--log-level says how much is logged"),
    IDLE("disable-uvicorn-access-log", SWITCH, NULL,
         "requests are logged from --log-level info on"),
    NEVER("allow-credentials", SWITCH, NULL, "no cookie is read; keys are sent in a header"),
    IDLE("allowed-methods", TEXT, "JSON", "pages may use the methods that the routes have"),
    IDLE("allowed-headers", TEXT, "JSON", "pages may send the headers that the routes read"),
    NEVER("lora-modules", LIST, "NAME=PATH", "adapters are not built; merge them into the weights"),
    NEVER("prompt-adapters", LIST, "NAME=PATH", "prompt adapters are not built"),
    IDLE("chat-template-content-format", TEXT, "FORMAT",
         "a message's content reaches the template as it was sent"),
    IDLE("response-role", TEXT, "ROLE", NO_GENERATION),
    NEVER("ssl-ca-certs", TEXT, "FILE",
          "certificates of clients are not asked for; --api-key-file says who may come in"),
    NEVER("ssl-cert-reqs", INT, "N",
          "certificates of clients are not asked for; --api-key-file says who may come in"),
    IDLE("enable-ssl-refresh", SWITCH, NULL, "SIGHUP reads certificates again"),
    NEVER("root-path", TEXT, "PATH", "routes have no prefix; let the proxy take its own off"),
    NEVER("middleware", LIST, "CLASS", "poolrank has no Python classes that could be put in"),
    IDLE("return-tokens-as-token-ids", SWITCH, NULL, NO_GENERATION),
    IDLE("disable-frontend-multiprocessing", SWITCH, NULL, "the front end is in one process"),
    IDLE("enable-request-id-headers", SWITCH, NULL, "every answer has its X-Request-Id"),
    IDLE("enable-auto-tool-choice", SWITCH, NULL, NO_GENERATION),
    IDLE("tool-call-parser", TEXT, "NAME", NO_GENERATION),
    IDLE("tool-parser-plugin", TEXT, "NAME", NO_GENERATION),
    IDLE("max-log-len", INT, "N", "texts are never logged"),
    IDLE("disable-fastapi-docs", SWITCH, NULL, "there are no such pages"),
    IDLE("enable-prompt-tokens-details", SWITCH, NULL,
         "answers do not say what of a prompt was cached"),
    IDLE("enable-server-load-tracking", SWITCH, NULL, "GET /load always answers"),
};
const size_t pr_option_rows_server_count =
    sizeof pr_option_rows_server / sizeof *pr_option_rows_server;
