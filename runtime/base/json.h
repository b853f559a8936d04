/* runtime/base/json.h: reading JSON (jansson) with errors that say where.
 *
 * Values are jansson's, reference-counted: what parse and load return is owned by the caller
 * (json_decref); what the getters return is borrowed from the object. Called on any thread.
 *
 * `where` names the object for messages: the file and the path so far, "config.json" or
 * "config.json: rope_scaling". A getter fails with PR_E_MODEL and
 * "where: key: found …, expected …". `_opt` getters leave *out as it was when the key is missing or
 * null, and return PR_OK; the others fail then. */
#ifndef POOLRANK_RUNTIME_BASE_JSON_H
#define POOLRANK_RUNTIME_BASE_JSON_H

#include "runtime/base/status.h"

#include <jansson.h>
#include <stdint.h>

enum { PR_JSON_DEPTH_MAX = 256 };

/* Text to value. Refuses invalid UTF-8, NaN, integers over 64 bits, nesting deeper than
 * PR_JSON_DEPTH_MAX, NUL in keys. Of duplicate keys the last wins, as in Python.
 * Fails PR_E_MODEL with line and column (the column alone for text of one line). */
pr_status pr_json_parse(const char *data, size_t n, const char *where, json_t **out, pr_error *err);

/* The same, and duplicate keys are refused. */
pr_status pr_json_parse_unique(const char *data, size_t n, const char *where, json_t **out,
                               pr_error *err);

/* A whole regular file of at most bytes_max. An integer over 64 bits is read as a real number here:
 * files of transformers have them for "no limit". Fails as pr_json_parse and pr_file_read. */
pr_status pr_json_load(const char *path, size_t bytes_max, json_t **out, pr_error *err);

/* "a string", "an object", … for messages. */
const char *pr_json_type_name(const json_t *value);

pr_status pr_json_get_i64(const json_t *o, const char *where, const char *key, int64_t min,
                          int64_t max, int64_t *out, pr_error *err);
pr_status pr_json_get_i64_opt(const json_t *o, const char *where, const char *key, int64_t min,
                              int64_t max, int64_t *out, pr_error *err);
/* Numbers, integers included; always finite. */
pr_status pr_json_get_f64(const json_t *o, const char *where, const char *key, double *out,
                          pr_error *err);
pr_status pr_json_get_f64_opt(const json_t *o, const char *where, const char *key, double *out,
                              pr_error *err);
pr_status pr_json_get_bool(const json_t *o, const char *where, const char *key, bool *out,
                           pr_error *err);
pr_status pr_json_get_bool_opt(const json_t *o, const char *where, const char *key, bool *out,
                               pr_error *err);
/* *out borrowed from o; a string that holds a NUL character is refused. */
pr_status pr_json_get_str(const json_t *o, const char *where, const char *key, const char **out,
                          pr_error *err);
pr_status pr_json_get_str_opt(const json_t *o, const char *where, const char *key, const char **out,
                              pr_error *err);
/* type: JSON_OBJECT or JSON_ARRAY. *out borrowed from o. */
pr_status pr_json_get_node(const json_t *o, const char *where, const char *key, json_type type,
                           json_t **out, pr_error *err);
pr_status pr_json_get_node_opt(const json_t *o, const char *where, const char *key, json_type type,
                               json_t **out, pr_error *err);

#endif
