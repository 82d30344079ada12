/* Post-processors: the ids that go before and after the ids of a text. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "text/tokenizer_parts.h"

typedef struct around {
    sp_ids before, after;
    bool apart; /* they are texts of their own to what follows, as a template leaves them */
} around;

static spar_status push_id(const spar_tokenizer *t, sp_ids *ids, const json_t *id,
                           const char *where, spar_error *err) {
    json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || value >= t->vocabulary.n_tokens) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: post_processor: expected an id in 0..%d, found %s %lld", where,
                         t->vocabulary.n_tokens - 1, sp_json_type_name(id), (long long)value);
    }
    return sp_ids_push(ids, (int32_t)value, err);
}

/* TemplateProcessing: "single" lists special tokens around the one {"Sequence": {"id": "A"}}. */
static spar_status read_template(const spar_tokenizer *t, const json_t *processor, around *out,
                                 const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *single = json_object_get(processor, "single");
    const json_t *specials = json_object_get(processor, "special_tokens");
    bool before = true;
    if (!json_is_array(single)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: post_processor.single: expected a list, found %s",
                           where, sp_json_type_name(single)));
    }
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *special = json_object_get(json_array_get(single, i), "SpecialToken");
        if (!special) {
            before = false;
            continue;
        }
        const char *name;
        SPAR_TRY(sp_json_get_string(special, "id", &name, where, err));
        const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
        if (!json_is_array(ids)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: post_processor: special token %s has no ids",
                               where, name));
        }
        for (size_t k = 0; k < json_array_size(ids); k++) {
            SPAR_TRY(push_id(t, before ? &out->before : &out->after, json_array_get(ids, k), where,
                             err));
        }
    }
done:
    return status;
}

/* RobertaProcessing and BertProcessing: "cls" and "sep" are [token, id]. */
static spar_status read_cls_sep(const spar_tokenizer *t, const json_t *processor, around *out,
                                const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(
        push_id(t, &out->before, json_array_get(json_object_get(processor, "cls"), 1), where, err));
    SPAR_TRY(
        push_id(t, &out->after, json_array_get(json_object_get(processor, "sep"), 1), where, err));
done:
    return status;
}

static spar_status read_nothing(const spar_tokenizer *t, const json_t *processor, around *out,
                                const char *where, spar_error *err) {
    (void)t, (void)processor, (void)out, (void)where, (void)err;
    return SPAR_OK;
}

static const struct processor_type {
    const char *name;
    spar_status (*read)(const spar_tokenizer *t, const json_t *processor, around *out,
                        const char *where, spar_error *err);
} types[] = {
    {"TemplateProcessing", read_template},
    {"RobertaProcessing", read_cls_sep},
    {"BertProcessing", read_cls_sep},
    {"ByteLevel", read_nothing}, /* which trims offsets only */
};

static spar_status append(sp_ids *to, const sp_ids *from, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < from->n; i++) {
        SPAR_TRY(sp_ids_push(to, from->data[i], err));
    }
done:
    return status;
}

/* What a later processor adds goes around what the earlier ones added. */
static spar_status surround(around *all, around *with, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(append(&with->before, &all->before, err));
    SPAR_TRY(append(&all->after, &with->after, err));
    free(all->before.data);
    all->before = with->before;
    with->before = (sp_ids){0};
done:
    return status;
}

static spar_status read_one(const spar_tokenizer *t, const json_t *processor, around *all,
                            const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    around own = {0};
    const char *name;
    const struct processor_type *type = NULL;
    SPAR_TRY(sp_json_get_string(processor, "type", &name, where, err));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        type = strcmp(types[i].name, name) == 0 ? &types[i] : type;
    }
    if (!type) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: post_processor: type %s is not supported",
                           where, name));
        goto done;
    }
    SPAR_TRY(type->read(t, processor, &own, where, err));
    if (own.before.n + own.after.n > 0 && all->apart) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: post_processor: %s behind a TemplateProcessing that adds tokens is "
                           "not supported",
                           where, name));
    }
    all->apart = all->apart || (type->read == read_template && own.before.n + own.after.n > 0);
    SPAR_TRY(surround(all, &own, err));
done:
    free(own.before.data);
    free(own.after.data);
    return status;
}

spar_status sp_tokenizer_read_processor(spar_tokenizer *t, const json_t *processor,
                                        const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    around all = {0};
    const char *name = json_string_value(json_object_get(processor, "type"));
    if (name && strcmp(name, "Sequence") == 0) {
        const json_t *list = json_object_get(processor, "processors");
        for (size_t i = 0; i < json_array_size(list); i++) {
            SPAR_TRY(read_one(t, json_array_get(list, i), &all, where, err));
        }
    } else if (processor && !json_is_null(processor)) {
        SPAR_TRY(read_one(t, processor, &all, where, err));
    }
    t->before = all.before.data;
    t->n_before = all.before.n;
    t->after = all.after.data;
    t->n_after = all.after.n;
    all = (around){0};
done:
    free(all.before.data);
    free(all.after.data);
    return status;
}
