/* Glue over jansson (JSON) and libyaml (YAML): parsing with messages that name the place, and
 * typed access to objects with messages that name the field, what was expected and what was found.
 *
 * All sp_json_get_* read member key of object; `where` names the object in messages
 * ("config.json"). A missing member or null is an error unless the function takes a fallback.
 */
#ifndef SP_BASE_JSONX_H
#define SP_BASE_JSONX_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "spar/status.h"

/* Parse n bytes; duplicate keys, trailing text, NUL escapes and nesting above jansson's limit are
 * refused. *out is a new reference. */
spar_status sp_json_parse(json_t **out, const char *text, size_t n, const char *where,
                          spar_error *err);
/* The same for rows of data, whose strings may hold U+0000 (json_string_length tells). */
spar_status sp_json_parse_row(json_t **out, const char *text, size_t n, const char *where,
                              spar_error *err);
spar_status sp_json_load(json_t **out, const char *path, spar_error *err); /* files up to 256 MiB */
/* The same; *out is NULL where there is no such file. */
spar_status sp_json_load_if_there(json_t **out, const char *path, spar_error *err);
/* Write pretty (indent 2) with a final newline, all or nothing. */
spar_status sp_json_save(const json_t *value, const char *path, spar_error *err);

const char *
sp_json_type_name(const json_t *value); /* "object", "string", ... ; NULL gives "nothing" */

spar_status sp_json_get_int(const json_t *object, const char *key, int64_t min, int64_t max,
                            int64_t *out, const char *where, spar_error *err);
spar_status sp_json_get_int_or(const json_t *object, const char *key, int64_t min, int64_t max,
                               int64_t fallback, int64_t *out, const char *where, spar_error *err);
spar_status sp_json_get_number(const json_t *object, const char *key, double *out,
                               const char *where, spar_error *err);
spar_status sp_json_get_number_or(const json_t *object, const char *key, double fallback,
                                  double *out, const char *where, spar_error *err);
spar_status sp_json_get_bool_or(const json_t *object, const char *key, bool fallback, bool *out,
                                const char *where, spar_error *err);
/* *out is borrowed from object. */
spar_status sp_json_get_string(const json_t *object, const char *key, const char **out,
                               const char *where, spar_error *err);
spar_status sp_json_get_string_or(const json_t *object, const char *key, const char *fallback,
                                  const char **out, const char *where, spar_error *err);

/* YAML (one document; anchors and tags refused; plain scalars typed by the YAML 1.2 core schema)
 * to JSON. */
spar_status sp_yaml_parse(json_t **out, const char *text, size_t n, const char *where,
                          spar_error *err);
spar_status sp_yaml_load(json_t **out, const char *path, spar_error *err);

#endif
