/* The judge kind "process": a process reward model, which gives a score a step.
 *
 * What differs between the four formats is how a response's row of tokens is made, and where in it
 * the model is read; a score is the probability of "good" against "bad" there: the two tokens + and
 * - of a language model, or a head's output 1 against 0.
 * Sources: Math-Shepherd, arXiv 2312.08935; RLHFlow's process reward models; Qwen2.5-Math-PRM,
 * arXiv 2501.07301; the stepwise rows and the trainer of TRL.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "judge/kind.h"
#include "model/engine.h"
#include "model/reward.h"
#include "text/vocabulary.h"

static const char tag_text[] = " \xd0\xba\xd0\xb8", mark_text[] = "<extra_0>";

typedef struct process {
    sp_reward *reward; /* owned; or a language model with a pass: */
    spar_model *model; /* owned; with reward: its own, borrowed */
    sp_pass *pass;     /* owned */
    sp_batch batch;
    spar_step_rules rules; /* the format is not auto */
    int32_t tag, good, bad;
} process;

/* A row of tokens and where its steps are read; both owned. */
typedef struct step_row {
    sp_ids ids;
    int64_t *at; /* [n] */
    size_t n, capacity;
} step_row;

static void release_row(step_row *row) {
    free(row->ids.data);
    free(row->at);
    memset(row, 0, sizeof *row);
}

static void process_close(void *context) {
    process *p = context;
    sp_pass_free(p->pass);
    sp_batch_release(&p->batch);
    if (p->reward) {
        sp_reward_free(p->reward);
    } else {
        spar_model_free(p->model);
    }
    free(p);
}

/* ---- opening ---- */

static spar_status encode(const process *p, const char *text, unsigned flags, sp_ids *out,
                          spar_error *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    spar_status status = spar_tokenizer_encode(spar_model_tokenizer(p->model), text, strlen(text),
                                               flags, &ids, &n, err);
    for (size_t i = 0; i < n && status == SPAR_OK; i++) {
        status = sp_ids_push(out, ids[i], err);
    }
    free(ids);
    return status;
}

/* The last id of a text. */
static spar_status last_id(const process *p, const char *text, int32_t *out, spar_error *err) {
    sp_ids ids = {0};
    spar_status status = encode(p, text, SPAR_TOKENIZE_NO_SPECIAL, &ids, err);
    if (status == SPAR_OK && ids.n == 0) {
        status = spar_fail(err, SPAR_UNSUPPORTED, "%s: its tokenizer has no token for '%s'",
                           spar_model_path(p->model), text);
    }
    if (status == SPAR_OK) {
        *out = ids.data[ids.n - 1];
    }
    free(ids.data);
    return status;
}

static spar_status load(process *p, const char *dir, const spar_model_options *options,
                        spar_error *err) {
    spar_status status = SPAR_OK;
    spar_error no_head;
    const spar_status head = sp_reward_load(&p->reward, dir, options, &no_head);
    if (head == SPAR_OK) {
        p->model = sp_reward_model(p->reward);
        if (sp_reward_labels(p->reward) != 2) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: expected a head of two outputs or a language model, found %lld "
                               "outputs",
                               dir, (long long)sp_reward_labels(p->reward)));
        }
    } else if (head != SPAR_UNSUPPORTED) {
        SPAR_TRY(spar_fail(err, head, "%s", no_head.message));
    } else {
        SPAR_TRY(spar_model_load(&p->model, dir, options, err));
        SPAR_TRY(sp_pass_create(&p->pass, p->model, SP_PASS_INFER, err));
    }
    if (!spar_model_tokenizer(p->model)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no tokenizer", dir));
    }
done:
    return status;
}

/* The format that a model is made for: by its head and its vocabulary. */
static spar_status settle_format(process *p, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(p->model);
    int *format = &p->rules.format;
    if (*format == SPAR_STEPS_AUTO && p->reward) {
        *format = spar_tokenizer_id(t, mark_text) >= 0 ? SPAR_STEPS_MARKS : SPAR_STEPS_LINES;
    } else if (*format == SPAR_STEPS_AUTO) {
        *format = spar_model_template(p->model) ? SPAR_STEPS_TURNS : SPAR_STEPS_TAG;
    }
    const bool head = *format == SPAR_STEPS_MARKS || *format == SPAR_STEPS_LINES;
    if (head != (p->reward != NULL)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: step format: expected marks or lines for a model with a head, tag "
                           "or turns for a language model",
                           dir));
    }
    if (head) {
        SPAR_TRY(*format == SPAR_STEPS_MARKS ? last_id(p, mark_text, &p->tag, err) : SPAR_OK);
        goto done;
    }
    const bool tag = *format == SPAR_STEPS_TAG;
    SPAR_TRY(last_id(p, tag_text, &p->tag, err));
    SPAR_TRY(last_id(p, tag ? " +" : "+", &p->good, err));
    SPAR_TRY(last_id(p, tag ? " -" : "-", &p->bad, err));
done:
    return status;
}

static spar_status process_open(void **context, const char *dir, const spar_judge_options *options,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model_options model = {
        .dtype = options->dtype, .threads = options->threads, .inference = true};
    void *memory;
    process *p = NULL;
    if (!dir[0]) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "judge: expected process:FOLDER, found no folder"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *p, err));
    p = memory;
    sp_batch_init(&p->batch);
    p->rules = options->process;
    SPAR_TRY(load(p, dir, &model, err));
    SPAR_TRY(settle_format(p, dir, err));
    *context = p;
    p = NULL;
done:
    if (p) {
        process_close(p);
    }
    return status;
}

static spar_status process_describe(const void *context, json_t *out, spar_error *err) {
    static const char *const formats[] = {"auto", "tag", "turns", "marks", "lines"};
    static const char *const aggregates[] = {"min", "product", "last"};
    static const char *const steps[] = {"paragraphs", "lines"};
    const process *p = context;
    const spar_step_rules *r = &p->rules;
    if (json_object_set_new(out, "step_format", json_string(formats[r->format])) != 0 ||
        json_object_set_new(out, "aggregate", json_string(aggregates[r->aggregate])) != 0 ||
        json_object_set_new(out, "steps", json_string(steps[r->steps])) != 0) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judge's provenance");
    }
    return SPAR_OK;
}

/* ---- rows ---- */

json_t *sp_judge_steps_of(const json_t *response, bool lines) {
    const char *mark = lines ? "\n" : "\n\n";
    if (json_is_array(response)) {
        return json_deep_copy(response);
    }
    json_t *steps = json_array();
    for (const char *text = json_string_value(response); text;) {
        const char *end = strstr(text, mark);
        const size_t n = end ? (size_t)(end - text) : strlen(text);
        if (n > 0) {
            json_array_append_new(steps, json_stringn(text, n));
        }
        text = end ? end + strlen(mark) : NULL;
        text = text ? text + strspn(text, "\n") : NULL;
    }
    if (json_array_size(steps) == 0) {
        json_array_append_new(steps, json_string(""));
    }
    return steps;
}

static spar_status read_at(step_row *row, int64_t at, spar_error *err) {
    void *memory = row->at;
    const spar_status status =
        sp_mem_grow(&memory, &row->capacity, row->n + 1, sizeof *row->at, err);
    row->at = memory;
    if (status == SPAR_OK) {
        row->at[row->n++] = at;
    }
    return status;
}

/* Read at each token that is the tag. */
static spar_status read_at_tags(const process *p, step_row *row, size_t steps, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < row->ids.n; i++) {
        if (row->ids.data[i] == p->tag) {
            SPAR_TRY(read_at(row, (int64_t)i, err));
        }
    }
    if (row->n != steps) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "expected the tag of a step behind each of %zu steps, found %zu tags",
                           steps, row->n));
    }
done:
    return status;
}

static spar_status row_of_tags(const process *p, const char *prompt, const json_t *steps,
                               step_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    size_t i;
    json_t *step;
    sp_str_printf(&text, "%s ", prompt);
    json_array_foreach((json_t *)(uintptr_t)steps, i, step) {
        sp_str_printf(&text, "%s%s%s", i ? "\n" : "", json_string_value(step), tag_text);
    }
    SPAR_TRY(sp_str_status(&text, err));
    SPAR_TRY(encode(p, sp_str_get(&text), 0, &row->ids, err));
    SPAR_TRY(read_at_tags(p, row, json_array_size(steps), err));
done:
    sp_str_release(&text);
    return status;
}

/* The conversation up to a turn of the user is the beginning of the whole: its last token predicts
 * the answer. */
static spar_status row_of_turns(const process *p, const char *prompt, const json_t *steps,
                                step_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *messages = json_array();
    size_t i;
    json_t *step;
    json_array_foreach((json_t *)(uintptr_t)steps, i, step) {
        const sp_ids before = row->ids;
        const char *text = json_string_value(step);
        if (i) {
            json_array_append_new(messages,
                                  json_pack("{s:s, s:s}", "role", "assistant", "content", "+"));
        }
        json_array_append_new(messages, json_pack("{s:s, s:s++}", "role", "user", "content",
                                                  i ? "" : prompt, i ? "" : " ", text));
        row->ids = (sp_ids){0};
        status = spar_model_chat_ids(p->model, messages, true, &row->ids.data, &row->ids.n, err);
        const bool same = status == SPAR_OK && before.n <= row->ids.n &&
                          (before.n == 0 ||
                           memcmp(before.data, row->ids.data, before.n * sizeof *before.data) == 0);
        free(before.data);
        SPAR_TRY(status);
        if (!same) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: its chat template does not continue a conversation as it began",
                               spar_model_path(p->model)));
        }
        SPAR_TRY(read_at(row, (int64_t)row->ids.n - 1, err));
    }
done:
    json_decref(messages);
    return status;
}

static spar_status row_of_marks(const process *p, const sp_judge_item *item, const json_t *steps,
                                step_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    json_t *response = NULL, *conversation = NULL;
    size_t i;
    json_t *step;
    json_array_foreach((json_t *)(uintptr_t)steps, i, step) {
        sp_str_printf(&text, "%s%s", json_string_value(step), mark_text);
    }
    SPAR_TRY(sp_str_status(&text, err));
    response = json_stringn(sp_str_get(&text), text.len);
    SPAR_TRY(sp_judge_conversation(item, response, &conversation, err));
    SPAR_TRY(spar_model_chat_ids(p->model, conversation, false, &row->ids.data, &row->ids.n, err));
    SPAR_TRY(read_at_tags(p, row, json_array_size(steps), err));
done:
    sp_str_release(&text);
    json_decref(response);
    json_decref(conversation);
    return status;
}

/* As TRL's trainer has it: prompt, steps and line breaks are tokenised apart. */
static spar_status row_of_lines(const process *p, const char *prompt, const json_t *steps,
                                step_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    const int32_t bos = spar_tokenizer_bos(spar_model_tokenizer(p->model));
    size_t i;
    json_t *step;
    if (bos >= 0) {
        SPAR_TRY(sp_ids_push(&row->ids, bos, err));
    }
    SPAR_TRY(encode(p, prompt, SPAR_TOKENIZE_NO_SPECIAL, &row->ids, err));
    json_array_foreach((json_t *)(uintptr_t)steps, i, step) {
        SPAR_TRY(encode(p, json_string_value(step), SPAR_TOKENIZE_NO_SPECIAL, &row->ids, err));
        SPAR_TRY(encode(p, "\n", SPAR_TOKENIZE_NO_SPECIAL, &row->ids, err));
        SPAR_TRY(read_at(row, (int64_t)row->ids.n - 1, err));
    }
done:
    return status;
}

static spar_status make_row(const process *p, const sp_judge_item *item, const json_t *steps,
                            step_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    SPAR_TRY(sp_judge_prompt_text(item->prompt, &text, err));
    switch (p->rules.format) {
    case SPAR_STEPS_TAG:
        SPAR_TRY(row_of_tags(p, sp_str_get(&text), steps, row, err));
        break;
    case SPAR_STEPS_TURNS:
        SPAR_TRY(row_of_turns(p, sp_str_get(&text), steps, row, err));
        break;
    case SPAR_STEPS_MARKS:
        SPAR_TRY(row_of_marks(p, item, steps, row, err));
        break;
    default:
        SPAR_TRY(row_of_lines(p, sp_str_get(&text), steps, row, err));
    }
    if ((int64_t)row->ids.n > spar_model_context(p->model)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "%zu tokens are more than the process reward model's context of %lld",
                           row->ids.n, (long long)spar_model_context(p->model)));
    }
    SPAR_TRY(sp_model_check_ids(p->model, row->ids.data, row->ids.n, err));
done:
    sp_str_release(&text);
    return status;
}

/* ---- scores ---- */

static spar_status score_by_head(process *p, const step_row *row, double *out, spar_error *err) {
    void *memory = NULL;
    const sp_token_row ids = {.ids = row->ids.data, .n = row->ids.n};
    spar_status status = sp_mem_calloc(&memory, row->n, 2 * sizeof(float), err);
    if (status == SPAR_OK) {
        status = sp_reward_scores_at(p->reward, &ids, row->at, row->n, memory, err);
    }
    const float *logits = memory;
    for (size_t i = 0; i < row->n && status == SPAR_OK; i++) {
        out[i] = sp_judge_sigmoid((double)logits[2 * i + 1] - (double)logits[2 * i]);
    }
    free(memory);
    return status;
}

static spar_status score_by_words(process *p, const step_row *row, double *out, spar_error *err) {
    spar_status status = SPAR_OK;
    float *logits = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)spar_model_vocab(p->model), sizeof *logits, err));
    logits = memory;
    sp_batch_clear(&p->batch);
    SPAR_TRY(sp_batch_add(&p->batch, -1, row->ids.data, row->ids.n, NULL, err));
    SPAR_TRY(sp_pass_forward(p->pass, &p->batch, NULL, err));
    for (size_t i = 0; i < row->n; i++) {
        SPAR_TRY(sp_pass_logits(p->pass, &row->at[i], 1, logits, err));
        out[i] = sp_judge_sigmoid((double)logits[p->good] - (double)logits[p->bad]);
    }
done:
    free(logits);
    return status;
}

static double aggregate(spar_aggregate how, const double *steps, size_t n) {
    double least = 1, product = 1;
    for (size_t i = 0; i < n; i++) {
        least = fmin(least, steps[i]);
        product *= steps[i];
    }
    return how == SPAR_AGGREGATE_MIN ? least : how == SPAR_AGGREGATE_LAST ? steps[n - 1] : product;
}

/* The steps' scores of response i behind the `used` of those before it. */
static spar_status judge_response(process *p, const sp_judge_item *item, size_t i, size_t *used,
                                  size_t *capacity, spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    step_row row = {0};
    json_t *steps = sp_judge_steps_of(json_array_get(item->responses, i), p->rules.steps == 1);
    void *memory = out->steps;
    SPAR_TRY(make_row(p, item, steps, &row, err));
    SPAR_TRY(sp_mem_grow(&memory, capacity, *used + row.n, sizeof *out->steps, err));
    out->steps = memory;
    SPAR_TRY((p->reward ? score_by_head : score_by_words)(p, &row, out->steps + *used, err));
    out->scores[i] = aggregate((spar_aggregate)p->rules.aggregate, out->steps + *used, row.n);
    out->n_steps[i] = row.n;
    json_array_append(out->step_texts, steps);
    out->tokens += (int64_t)row.ids.n;
    *used += row.n;
done:
    release_row(&row);
    json_decref(steps);
    return status;
}

static spar_status process_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    size_t used = 0, capacity = 0;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, item->k, sizeof *out->n_steps, err));
    out->n_steps = memory;
    out->step_texts = json_array();
    if (!out->step_texts) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for steps"));
    }
    for (size_t i = 0; i < item->k; i++) {
        status = judge_response(context, item, i, &used, &capacity, out, err);
        if (status != SPAR_OK) {
            spar_error_context(err, "responses[%zu]", i);
            goto done;
        }
    }
done:
    return status;
}

const sp_judge_kind sp_judge_process = {.name = "process",
                                        .fills = SP_JUDGE_FILLS_SCORES,
                                        .reads_steps = true,
                                        .open = process_open,
                                        .judge = process_judge,
                                        .close = process_close,
                                        .describe = process_describe,
                                        .is_folder = true};
