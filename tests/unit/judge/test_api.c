/* Judges behind an endpoint: verdicts out of replies, and a server that fails in every way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "endpoint.h"
#include "judge/prompt.h"
#include "judge/requests.h"
#include "judge/verdict.h"
#include "support.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

/* ---- verdicts ---- */

/* Probabilities of up to three verdicts (ratings: of 7, 8 and 10) in a reply's choice. */
static void verdict_is(const char *prompt, const char *choice, bool found, double a, double b,
                       double c) {
    const double want[] = {a, b, c};
    spar_error err;
    sp_judge_prompt p;
    json_t *json;
    double logps[SP_JUDGE_MAX_VERDICTS];
    check(sp_judge_prompt_load(&p, prompt, &err), &err);
    check(sp_json_parse(&json, choice, strlen(choice), "choice", &err), &err);
    assert_int_equal(sp_judge_read_verdict(&p, json, logps), found);
    for (int i = 0; i < (p.n_verdicts < 3 ? p.n_verdicts : 3); i++) {
        const int v = p.pairwise ? i : (int[]){6, 7, 9}[i];
        if (!(fabs(exp(logps[v]) - want[i]) < 1e-9)) {
            fail_msg("%s: verdict %d: expected %g, found %g", choice, i, want[i], exp(logps[v]));
        }
    }
    json_decref(json);
    sp_judge_prompt_release(&p);
}

#define SAYS(text) "{\"message\": {\"content\": \"" text "\"}}"
#define TOP(token, entries) "{\"token\": \"" token "\", \"top_logprobs\": [" entries "]}"
#define ALT(token, logprob) "{\"token\": \"" token "\", \"logprob\": " logprob "}"

static void verdicts_are_read(void **state) {
    (void)state;
    verdict_is("pairwise", SAYS("[[A]]"), true, 1, 0, 0);
    verdict_is("pairwise", SAYS("[[A]] would be rash: [[C]]"), true, 0, 0, 1);
    verdict_is("pairwise", SAYS("[[D]] A"), false, 0, 0, 0);
    verdict_is("pairwise", SAYS(""), false, 0, 0, 0);
    verdict_is("preference", SAYS(" M"), true, 0, 1, 0);
    verdict_is("preference", SAYS("maybe"), false, 0, 0, 0);
    verdict_is("single", SAYS("Rating: [[7]]"), true, 1, 0, 0);
    verdict_is("single", SAYS("[[7.25]]"), true, 0.75, 0.25, 0);
    verdict_is("single", SAYS("[[10]]"), true, 0, 0, 1);
    verdict_is("single", SAYS("[[11]]"), false, 0, 0, 0);
    verdict_is("single", SAYS("[[0]]"), false, 0, 0, 0);
    /* the letter may share its token with a bracket; alternatives that begin otherwise are left */
    verdict_is(
        "pairwise",
        "{\"message\": {\"content\": \"So [[B]]\"}, \"logprobs\": {\"content\": [" TOP(
            "So", "") ", " TOP(" [[B",
                               ALT(" [[B", "-0.6931471805599453") ", " ALT(
                                   " [[A",
                                   "-1.3862943611198906") ", " ALT("[[C", "-3")) ", " TOP("]]",
                                                                                          "") "]}}",
        true, 0.25, 0.5, 0);
    /* a log-prob above 0 is none: it counts as certain */
    verdict_is("pairwise",
               "{\"message\": {\"content\": \"[[B]]\"}, \"logprobs\": {\"content\": [" TOP(
                   "[[", "") ", " TOP("B", ALT("B", "1e308")) "]}}",
               true, 0, 1, 0);
    /* 1 is not 10, and two spellings of one verdict add up */
    verdict_is(
        "single",
        "{\"message\": {\"content\": \"[[10]]\"}, \"logprobs\": {\"content\": [" TOP(
            "[[", "") ", " TOP("10",
                               ALT("10", "-0.6931471805599453") ", " ALT(
                                   "10]", "-1.3862943611198906") ", " ALT("8", "-2.0794415"
                                                                               "416798357")) "]}}",
        true, 0, 0.125, 0.75);
}

/* ---- a server ---- */

static char dir[TEST_PATH_MAX], seen[TEST_PATH_MAX], cache[TEST_PATH_MAX];

static int make_dir(void **state) {
    (void)state;
    test_path(seen, test_temp_dir(dir), "log");
    test_path(cache, dir, "cache");
    setenv("SPAR_TEST_KEY", "secret-key", 1);
    setenv("no_proxy", "127.0.0.1", 1);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

typedef struct outcome {
    spar_status status;
    spar_error err;
    spar_judgement j;
} outcome;

/* Judge two rows of two responses at the loopback's port; the second's outcome. */
static outcome judge_port(int port, double request_limit, int64_t attempts, double patience) {
    char url[64];
    outcome o = {.status = SPAR_OK};
    spar_judge *judge;
    json_t *rows[2] = {json_pack("{s:s, s:[s, s]}", "prompt", "one", "responses", "a", "bb"),
                       json_pack("{s:s, s:[s, s]}", "prompt", "two", "responses", "long", "s")};
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/", port);
    const spar_judge_options options = {.endpoint = {.url = url,
                                                     .key_variable = "SPAR_TEST_KEY",
                                                     .attempts = attempts,
                                                     .request_limit = request_limit,
                                                     .patience = patience,
                                                     .logprobs = true},
                                        .cache = cache};
    o.status = spar_judge_open(&judge, "api:tiny", &options, &o.err);
    if (o.status == SPAR_UNSUPPORTED) {
        TEST_SKIP("%s", o.err.message);
    }
    check(o.status, &o.err);
    for (int i = 0; i < 2 && o.status == SPAR_OK; i++) {
        spar_judgement_release(&o.j);
        o.status = spar_judge_row(judge, rows[i], &o.j, &o.err);
    }
    spar_judge_free(judge);
    json_decref(rows[0]);
    json_decref(rows[1]);
    return o;
}

/* The same at an endpoint of its own with that script. */
static outcome judge_at(const char *script, double request_limit, int64_t attempts,
                        double patience) {
    int port = 0;
    const pid_t server = endpoint_start(script, seen, &port);
    const outcome o = judge_port(port, request_limit, attempts, patience);
    endpoint_stop(server);
    return o;
}

/* Requests in the log, those that begin with one of the letters; the log is removed. */
static int count_seen(const char *letters) {
    char *text = NULL;
    size_t n;
    int count = 0;
    spar_error err;
    check(sp_file_read(seen, 1 << 20, &text, &n, &err), &err);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        count += strchr(letters, *line) != NULL;
        assert_memory_equal(line + 1, " secret-key {\"model\":\"tiny\",", 28);
    }
    free(text);
    assert_int_equal(unlink(seen), 0);
    return count;
}

static void judgements_are_right(void **state) {
    (void)state;
    outcome o = judge_at("", 5, 3, 60);
    check(o.status, &o.err);
    assert_true(fabs(o.j.p[1] - 0.25) < 1e-9 && fabs(o.j.p[2] - 0.75) < 1e-9);
    assert_true(fabs(o.j.logits[2] - log(3.5)) < 1e-6);
    assert_int_equal(o.j.best, 1);
    assert_int_equal(o.j.requests, 2);
    assert_int_equal(o.j.tokens, 14);
    assert_int_equal(count_seen("o"), 4);
    spar_judgement_release(&o.j);
}

/* Whatever happens on the way: the judgements are those of a server that never fails, and each
 * question is answered once. */
static void failures_are_waited_out(void **state) {
    (void)state;
    static const char *const scripts[] = {"tooo", "o4oo", "oo5", "nj", "dx", "ox1"};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        const bool last = scripts[i][2] == '1';
        outcome o = judge_at(scripts[i], 0.5, 4, 60);
        assert_int_equal(o.status, last ? SPAR_INVALID : SPAR_OK);
        if (last) { /* a refusal that no waiting helps against */
            assert_non_null(strstr(o.err.message, "HTTP status 401: no such key (2 attempts"));
            assert_null(strstr(o.err.message, "secret-key"));
        } else {
            assert_true(fabs(o.j.p[2] - 0.75) < 1e-9);
        }
        assert_int_equal(count_seen("o"), last ? 1 : 4);
        spar_judgement_release(&o.j);
        assert_int_equal(unlink(cache), 0);
    }
}

static void waiting_is_bounded(void **state) {
    (void)state;
    outcome o = judge_at("55555555", 5, 3, 60); /* by count */
    assert_int_equal(o.status, SPAR_IO);
    assert_non_null(strstr(o.err.message, "HTTP status 500 (3 attempts"));
    assert_int_equal(count_seen("5"), 3);
    spar_judgement_release(&o.j);
    o = judge_at("55555555", 5, 100, 1.2); /* by time: 0.5 seconds, and then no whole one */
    assert_int_equal(o.status, SPAR_IO);
    assert_int_equal(count_seen("5"), 2);
    spar_judgement_release(&o.j);
    o = judge_at("9", 5, 100, 60); /* longer than it may wait */
    assert_int_equal(o.status, SPAR_IO);
    assert_non_null(strstr(o.err.message, "HTTP status 429 (1 attempts"));
    assert_int_equal(count_seen("9"), 1);
    spar_judgement_release(&o.j);
}

/* What was answered is never asked again, by another judge after a failure. */
static void replies_are_kept(void **state) {
    (void)state;
    int port = 0;
    const pid_t server = endpoint_start("oox1", seen, &port);
    outcome o = judge_port(port, 5, 2, 60);
    assert_int_equal(o.status, SPAR_INVALID);
    assert_int_equal(count_seen("o"), 2);
    spar_judgement_release(&o.j);
    o = judge_port(port, 5, 2, 60);
    check(o.status, &o.err);
    assert_int_equal(o.j.requests, 2);
    assert_int_equal(count_seen("o"), 2);
    spar_judgement_release(&o.j);
    o = judge_port(port, 5, 2, 60);
    check(o.status, &o.err);
    assert_true(fabs(o.j.p[2] - 0.75) < 1e-9);
    assert_int_equal(o.j.requests, 0);
    assert_false(sp_file_exists(seen));
    spar_judgement_release(&o.j);
    endpoint_stop(server);
    char *text = NULL;
    size_t n;
    spar_error err;
    check(sp_file_read(cache, 1 << 24, &text, &n, &err), &err);
    assert_null(memmem(text, n, "secret-key", 10));
    assert_non_null(memmem(text, n, "total_tokens", 12));
    free(text);
}

static void answers_without_verdicts(void **state) {
    (void)state;
    outcome o = judge_at("oovp", 5, 3, 60);
    check(o.status, &o.err);
    assert_int_equal(o.j.no_verdict, 1);
    assert_true(o.j.p[1] == 0.5); /* v: nothing said */
    assert_true(o.j.p[2] == 1);   /* p: for certain */
    spar_judgement_release(&o.j);
}

/* ---- several at a time ---- */

enum { N_ROWS = 8, N_QUESTIONS = 2 * N_ROWS };

/* Judgements of N_ROWS rows that were all asked about ahead. */
typedef struct batch {
    spar_status status[N_ROWS];
    spar_error err[N_ROWS];
    double p[N_ROWS]; /* of the second response over the first */
    int64_t requests;
    double seconds;
} batch;

static json_t *row_of(int i) {
    char prompt[16], longer[32];
    snprintf(prompt, sizeof prompt, "prompt %d", i);
    snprintf(longer, sizeof longer, "%.*s", i + 2, "an answer that is long");
    return json_pack("{s:s, s:[s, s]}", "prompt", prompt, "responses", i % 2 ? "x" : longer,
                     i % 2 ? longer : "x");
}

static void judge_all(spar_judge *judge, batch *b) {
    spar_error err;
    json_t *rows[N_ROWS];
    for (int i = 0; i < N_ROWS; i++) {
        rows[i] = row_of(i);
    }
    assert_true(spar_judge_lookahead(judge) >= N_ROWS || spar_judge_lookahead(judge) == 1);
    check(spar_judge_ahead(judge, (const json_t *const *)rows, N_ROWS, &err), &err);
    for (int i = 0; i < N_ROWS; i++) {
        spar_judgement j;
        b->status[i] = spar_judge_row(judge, rows[i], &j, &b->err[i]);
        b->p[i] = b->status[i] == SPAR_OK ? j.p[2] : -1;
        b->requests += j.requests;
        b->seconds += j.seconds;
        spar_judgement_release(&j);
        json_decref(rows[i]);
    }
}

static batch batch_at(int port, int64_t concurrency, int64_t attempts, double request_limit) {
    char url[64];
    batch b = {.requests = 0};
    spar_error err;
    spar_judge *judge;
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    const spar_judge_options options = {.endpoint = {.url = url,
                                                     .key_variable = "SPAR_TEST_KEY",
                                                     .attempts = attempts,
                                                     .request_limit = request_limit,
                                                     .patience = 60,
                                                     .concurrency = concurrency,
                                                     .logprobs = true},
                                        .cache = cache};
    const spar_status status = spar_judge_open(&judge, "api:tiny", &options, &err);
    if (status == SPAR_UNSUPPORTED) {
        TEST_SKIP("%s", err.message);
    }
    check(status, &err);
    judge_all(judge, &b);
    spar_judge_free(judge);
    return b;
}

static batch batch_of(const char *script, int64_t concurrency, double request_limit) {
    int port = 0;
    const pid_t server = endpoint_start(script, seen, &port);
    const batch b = batch_at(port, concurrency, 4, request_limit);
    endpoint_stop(server);
    return b;
}

/* The answers of a server that never fails: the short one, first or second. */
static void is_right(const batch *b, int i) {
    check(b->status[i], &b->err[i]);
    assert_true(fabs(b->p[i] - (i % 2 ? 0.25 : 0.75)) < 1e-9);
}

static void all_right(const batch *b) {
    for (int i = 0; i < N_ROWS; i++) {
        is_right(b, i);
    }
    assert_int_equal(b->requests, N_QUESTIONS);
}

/* Questions in the log that were given one of the letters, each counted once. */
static int count_different(const char *letters) {
    char *text = NULL;
    size_t n;
    spar_error err;
    json_t *known = json_object();
    check(sp_file_read(seen, 1 << 20, &text, &n, &err), &err);
    for (char *line = text; *line; line += strlen(line) + 1) {
        line[strcspn(line, "\n")] = 0;
        if (strchr(letters, *line)) {
            json_object_set_new(known, line + 1, json_true());
        }
    }
    const int count = (int)json_object_size(known);
    json_decref(known);
    free(text);
    return count;
}

/* w: four are under way together, or else they would time out; they are answered the last first. */
static void order_does_not_matter(void **state) {
    (void)state;
    const batch one = batch_of("", 1, 5);
    all_right(&one);
    assert_int_equal(count_seen("o"), N_QUESTIONS);
    const batch four = batch_of("wwwowwwowwwowwwo", 4, 5);
    all_right(&four);
    assert_memory_equal(four.p, one.p, sizeof one.p);
    assert_int_equal(count_different("ow"), N_QUESTIONS);
    assert_int_equal(count_seen("ow"), N_QUESTIONS);
}

/* A fifth would end the waiting of four; there is none, so that they time out. */
static void no_more_than_allowed(void **state) {
    (void)state;
    const batch b = batch_of("wwww", 4, 0.5);
    all_right(&b);
    assert_int_equal(count_different("ow"), N_QUESTIONS);
    assert_int_equal(count_seen("w"), 4);
}

static void failures_of_one_hold_only_it(void **state) {
    (void)state;
    static const char *const scripts[] = {"tooo", "owow4o", "o5oo5", "njoown", "dooxwdo"};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        const batch b = batch_of(scripts[i], 4, 0.5);
        all_right(&b);
        assert_int_equal(count_different("ow"), N_QUESTIONS);
        assert_int_equal(count_seen("ow"), N_QUESTIONS);
        assert_int_equal(unlink(cache), 0);
    }
}

/* The one that is told to wait comes again when all others have gone, and not before. */
static void retry_after_holds_one(void **state) {
    (void)state;
    char *text = NULL;
    size_t n;
    spar_error err;
    const batch b = batch_of("o4", 4, 5);
    all_right(&b);
    assert_true(b.seconds >= 1);
    check(sp_file_read(seen, 1 << 20, &text, &n, &err), &err);
    const char *told = strchr(text, '\n') + 1, *last = text;
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        last = line;
    }
    assert_int_equal(*told, '4');
    assert_int_equal(*last, 'o');
    assert_memory_equal(told + 1, last + 1, strcspn(last, "\n"));
    free(text);
    assert_int_equal(count_seen("o"), N_QUESTIONS);
}

/* The server ends; another one takes its place. */
static void a_dead_endpoint_loses_nothing(void **state) {
    (void)state;
    int port = 0;
    pid_t server = endpoint_start("ooooooq", seen, &port);
    const batch dead = batch_at(port, 4, 2, 5);
    endpoint_stop(server);
    for (int i = 0; i < N_ROWS; i++) {
        if (i < 2) {
            is_right(&dead, i);
        } else if (dead.status[i] != SPAR_OK) { /* one patience for all of them */
            assert_int_equal(dead.status[i], SPAR_IO);
            assert_non_null(strstr(dead.err[i].message, "(2 attempts in"));
        }
    }
    assert_int_equal(dead.status[N_ROWS - 1], SPAR_IO);
    assert_int_equal(count_different("o"), 6);
    server = endpoint_start("", seen, &port);
    batch b = batch_at(port, 4, 2, 5);
    endpoint_stop(server);
    assert_int_equal(b.requests, N_QUESTIONS - 6);
    b.requests += 6;
    all_right(&b);
    assert_int_equal(count_different("o"), N_QUESTIONS);
    assert_int_equal(count_seen("o"), N_QUESTIONS);
}

/* Stopped when the first of four that are under way is not answered yet. */
static bool stop_soon(void *context) {
    int *asked = context;
    return ++*asked > 2;
}

static spar_status send_stopped(const char *script, double hear_out, double *seconds,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    int port = 0, asked = 0;
    char url[64], body[64];
    sp_requests *r = NULL;
    sp_rundb *db = NULL;
    const pid_t server = endpoint_start(script, seen, &port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/chat/completions", port);
    const sp_requests_options options = {
        .url = url,
        .key = "secret-key",
        .endpoint = {.attempts = 3, .request_limit = 30, .patience = 60, .concurrency = 4},
        .stop = stop_soon,
        .stop_context = &asked,
        .hear_out = hear_out};
    SPAR_TRY(sp_rundb_open(&db, cache, SP_RUNDB_CREATE, err));
    SPAR_TRY(sp_requests_open(&r, &options, err));
    sp_requests_keep(r, db);
    for (int i = 0; i < 6; i++) {
        snprintf(body, sizeof body, "{\"model\":\"tiny\",\"question\":%d}", i);
        SPAR_TRY(sp_requests_want(r, body, err));
    }
    const double begun = sp_now();
    status = sp_requests_send(r, err);
    *seconds = sp_now() - begun;
    int kept = 0;
    for (int i = 0; i < 6; i++) {
        char *reply = NULL, key[128];
        spar_error ignored;
        snprintf(key, sizeof key, "%s\n{\"model\":\"tiny\",\"question\":%d}", url, i);
        check(sp_rundb_get_reply(db, key, &reply, &ignored), &ignored);
        kept += reply != NULL;
        free(reply);
    }
    assert_int_equal(kept, strchr(script, 's') ? 4 : 0);
done:
    sp_requests_close(r);
    sp_rundb_close(db);
    endpoint_stop(server);
    assert_int_equal(unlink(cache), 0);
    return status;
}

/* What is under way when it is stopped is heard out and kept, nothing more is sent; and what does
 * not come is waited for no longer than it may be. */
static void a_stop_keeps_what_is_under_way(void **state) {
    (void)state;
    double seconds;
    spar_error err;
    assert_int_equal(send_stopped("ssss", 10, &seconds, &err), SPAR_INTERRUPTED);
    assert_int_equal(count_seen("so"), 4);
    assert_true(seconds < 5);
    assert_int_equal(send_stopped("tttt", 0.3, &seconds, &err), SPAR_INTERRUPTED);
    assert_true(seconds >= 0.3 && seconds < 5);
}

/* A refusal is the failure of one row; the others are judged. */
static void a_refusal_is_its_own_rows(void **state) {
    (void)state;
    const batch b = batch_of("ooooo1", 4, 5);
    int refused = 0;
    for (int i = 0; i < N_ROWS; i++) {
        if (b.status[i] == SPAR_OK) {
            is_right(&b, i);
        } else {
            assert_int_equal(b.status[i], SPAR_INVALID);
            assert_non_null(strstr(b.err[i].message, "HTTP status 401: no such key (1 attempts"));
            refused++;
        }
    }
    assert_int_equal(refused, 1);
    assert_int_equal(count_seen("1"), 1);
}

/* Two rows, with the k-th allocation failing: NO_MEMORY, or the judgements of any other day. */
static spar_status judge_with_failing(int port, long k, spar_error *err) {
    char url[64];
    spar_status status = SPAR_OK;
    spar_judge *judge = NULL;
    json_t *rows[2] = {row_of(0), row_of(1)};
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    const spar_judge_options options = {.endpoint = {.url = url,
                                                     .key_variable = "SPAR_TEST_KEY",
                                                     .attempts = 2,
                                                     .request_limit = 5,
                                                     .patience = 5,
                                                     .concurrency = 3,
                                                     .logprobs = true},
                                        .cache = cache};
    sp_mem_fail_at(k);
    SPAR_TRY(spar_judge_open(&judge, "api:tiny", &options, err));
    SPAR_TRY(spar_judge_ahead(judge, (const json_t *const *)rows, 2, err));
    for (int i = 0; i < 2; i++) {
        spar_judgement j;
        status = spar_judge_row(judge, rows[i], &j, err);
        if (status == SPAR_OK) {
            assert_true(fabs(j.p[2] - (i % 2 ? 0.25 : 0.75)) < 1e-9);
        }
        spar_judgement_release(&j);
        SPAR_TRY(status);
    }
done:
    sp_mem_fail_at(0);
    spar_judge_free(judge);
    json_decref(rows[0]);
    json_decref(rows[1]);
    return status;
}

static void a_failing_allocator(void **state) {
    (void)state;
    int port = 0;
    spar_error err;
    const pid_t server = endpoint_start("", seen, &port);
    /* What is asked ahead is asked again where that fails: one success is not the end. */
    int successes = 0, failures = 0;
    for (long k = 1; successes < 8; k++) {
        const spar_status status = judge_with_failing(port, k, &err);
        if (status == SPAR_UNSUPPORTED) {
            TEST_SKIP("%s", err.message);
        }
        assert_true(status == SPAR_OK || status == SPAR_NO_MEMORY);
        successes = status == SPAR_OK ? successes + 1 : 0;
        failures += status != SPAR_OK;
        unlink(cache);
    }
    endpoint_stop(server);
    assert_true(failures > 20);
}

static void bad_settings_are_refused(void **state) {
    (void)state;
    spar_error err;
    spar_judge *judge;
    spar_judge_options options = {.endpoint = {.url = "ftp://127.0.0.1"}};
    assert_int_equal(spar_judge_open(&judge, "api:m", NULL, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "found no endpoint"));
    assert_int_equal(spar_judge_open(&judge, "api", &options, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "found no model"));
    assert_int_equal(spar_judge_open(&judge, "api:m", &options, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "begins with http:// or https://"));
    options.endpoint = (spar_endpoint){.url = "http://127.0.0.1", .key_variable = "SPAR_TEST_KEY"};
    setenv("SPAR_TEST_KEY", "two\nlines", 1);
    assert_int_equal(spar_judge_open(&judge, "api:m", &options, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "expected one line"));
    options.endpoint = (spar_endpoint){.url = "http://127.0.0.1", .concurrency = 257};
    assert_int_equal(spar_judge_open(&judge, "api:m", &options, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "concurrency: expected 1 to 256, found 257"));
}

int main(void) {
#define ROW(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {ROW(verdicts_are_read),
                                       ROW(judgements_are_right),
                                       ROW(failures_are_waited_out),
                                       ROW(waiting_is_bounded),
                                       ROW(replies_are_kept),
                                       ROW(answers_without_verdicts),
                                       ROW(bad_settings_are_refused),
                                       ROW(order_does_not_matter),
                                       ROW(no_more_than_allowed),
                                       ROW(failures_of_one_hold_only_it),
                                       ROW(retry_after_holds_one),
                                       ROW(a_dead_endpoint_loses_nothing),
                                       ROW(a_refusal_is_its_own_rows),
                                       ROW(a_failing_allocator),
                                       ROW(a_stop_keeps_what_is_under_way)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
