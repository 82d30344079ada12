/* The run database: round trips, resuming, killed writers, refused rows and refused files. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/rundb.h"
#include "io/rundb_query.h"
#include "support.h"

static char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];

static int make_dir(void **state) {
    (void)state;
    test_temp_dir(dir);
    test_path(path, dir, "run.db");
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    spar_error err;
    return sp_dir_remove(dir, &err) == SPAR_OK ? 0 : -1;
}

static void ok_at(spar_status status, const spar_error *err, int line) {
    if (status != SPAR_OK) {
        print_error("line %d: %s\n", line, err->message);
        fail();
    }
}
#define OK(call) ok_at((call), &err, __LINE__)

static void refused_at(spar_status status, spar_status expected, const spar_error *err,
                       const char *part, int line) {
    if (status != expected || !strstr(err->message, part) || !strstr(err->message, path)) {
        print_error("line %d: %s '%s', expected %s '%s'\n", line, spar_status_name(status),
                    status == SPAR_OK ? "" : err->message, spar_status_name(expected), part);
        fail();
    }
}
#define REFUSED(call, code, part) refused_at((call), SPAR_##code, &err, part, __LINE__)

static sp_rundb *open_run(sp_rundb_mode mode) {
    sp_rundb *db = NULL;
    spar_error err;
    OK(sp_rundb_open(&db, path, mode, &err));
    return db;
}

/* SQL as another program would run it. */
static void meddle(const char *sql) {
    sqlite3 *raw = NULL;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(raw), SQLITE_OK);
}

static const sp_rundb_prompt a_prompt = {
    0, "train", "add", "[{\"role\":\"user\",\"content\":\"1+1\"}]", "2", NULL};
static const sp_rundb_stage a_stage = {0, 1, "spin", "iteration", 0, "pending", 0, 0, "{}"};
static const int32_t tokens[] = {5, -1, INT32_MAX};
static const float logprobs[] = {-0.5f, -1e-30f, -INFINITY};
static const sp_rundb_sample a_sample = {0,        1, 1,      0,      tokens,
                                         logprobs, 3, "text", "stop", "sampled"};

/* Prompt 1, stage 1, samples 1 and 2. */
static void put_basics(sp_rundb *db) {
    spar_error err;
    int64_t id = 0;
    sp_rundb_sample second = a_sample;
    second.index = 1;
    second.logprobs = NULL;
    second.n_tokens = 0;
    OK(sp_rundb_put_prompt(db, &a_prompt, &id, &err));
    assert_int_equal(id, 1);
    OK(sp_rundb_put_stage(db, &a_stage, &id, &err));
    assert_int_equal(id, 1);
    OK(sp_rundb_put_sample(db, &a_sample, &id, &err));
    OK(sp_rundb_put_sample(db, &second, &id, &err));
    assert_int_equal(id, 2);
}

/* ---- round trips, read by another handle ---- */

static spar_status check_prompt(void *context, const sp_rundb_prompt *row, spar_error *err) {
    (void)err;
    ++*(int *)context;
    assert_string_equal(row->set, "train");
    assert_string_equal(row->messages, a_prompt.messages);
    assert_string_equal(row->reference, "2");
    assert_null(row->key);
    return SPAR_OK;
}

static spar_status check_sample(void *context, const sp_rundb_sample *row, spar_error *err) {
    int *n = context;
    (void)err;
    assert_int_equal(row->id, *n + 1);
    assert_int_equal(row->index, *n);
    if (*n == 0) {
        assert_int_equal(row->n_tokens, 3);
        assert_memory_equal(row->tokens, tokens, sizeof tokens);
        assert_memory_equal(row->logprobs, logprobs, sizeof logprobs);
    } else {
        assert_int_equal(row->n_tokens, 0);
        assert_null(row->logprobs);
    }
    assert_string_equal(row->finish, "stop");
    ++*n;
    return SPAR_OK;
}

static void test_prompts_and_samples(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    int64_t count = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    sp_rundb_close(db);
    db = open_run(SP_RUNDB_READ);
    OK(sp_rundb_each_prompt(db, NULL, check_prompt, &n, &err));
    OK(sp_rundb_each_prompt(db, "train", check_prompt, &n, &err));
    OK(sp_rundb_each_prompt(db, "gate", check_prompt, &n, &err));
    OK(sp_rundb_get_prompt(db, 1, check_prompt, &n, &err));
    assert_int_equal(n, 3);
    REFUSED(sp_rundb_get_prompt(db, 9, check_prompt, &n, &err), NOT_FOUND, "no prompt 9");
    OK(sp_rundb_count_prompts(db, NULL, &count, &err));
    assert_int_equal(count, 1);
    OK(sp_rundb_count_prompts(db, "report", &count, &err));
    assert_int_equal(count, 0);
    n = 0;
    OK(sp_rundb_each_sample(db, 1, check_sample, &n, &err));
    assert_int_equal(n, 2);
    OK(sp_rundb_each_sample(db, 2, check_sample, &n, &err));
    assert_int_equal(n, 2);
    n = 0;
    OK(sp_rundb_get_sample(db, 1, check_sample, &n, &err));
    REFUSED(sp_rundb_get_sample(db, 3, check_sample, &n, &err), NOT_FOUND, "no sample 3");
    REFUSED(sp_rundb_put_prompt(db, &a_prompt, NULL, &err), IO, "readonly");
    OK(sp_rundb_check(db, &err));
    sp_rundb_close(db);
}

static spar_status check_stage(void *context, const sp_rundb_stage *row, spar_error *err) {
    const sp_rundb_stage *expected = context;
    (void)err;
    assert_int_equal(row->id, expected->id);
    assert_int_equal(row->ordinal, expected->ordinal);
    assert_string_equal(row->arm, "spin");
    assert_string_equal(row->kind, "iteration");
    assert_string_equal(row->status, expected->status);
    assert_int_equal(row->started, expected->started);
    assert_int_equal(row->finished, expected->finished);
    assert_string_equal(row->settings, "{}");
    return SPAR_OK;
}

static void test_stages_and_phases(void **state) {
    (void)state;
    spar_error err;
    int64_t done = 0, total = 0;
    sp_rundb_stage expected = a_stage;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    expected.id = 1;
    OK(sp_rundb_each_stage(db, check_stage, &expected, &err));
    OK(sp_rundb_set_stage_status(db, 1, "running", 100, &err));
    OK(sp_rundb_set_stage_status(db, 1, "running", 150, &err)); /* resumed: the start stands */
    expected.status = "running";
    expected.started = 100;
    OK(sp_rundb_each_stage(db, check_stage, &expected, &err));
    OK(sp_rundb_set_stage_status(db, 1, "done", 200, &err));
    expected.status = "done";
    expected.finished = 200;
    OK(sp_rundb_each_stage(db, check_stage, &expected, &err));
    REFUSED(sp_rundb_set_stage_status(db, 7, "done", 1, &err), NOT_FOUND, "no row 7");
    REFUSED(sp_rundb_set_stage_status(db, 1, "over", 1, &err), INVALID, "CHECK");
    REFUSED(sp_rundb_put_stage(db, &a_stage, NULL, &err), INVALID, "ordinal");
    OK(sp_rundb_get_phase(db, 1, "sample", &done, &total, &err));
    assert_true(done == 0 && total == -1);
    OK(sp_rundb_put_phase(db, 1, "sample", 3, 8, &err));
    OK(sp_rundb_put_phase(db, 1, "sample", 8, 8, &err));
    OK(sp_rundb_get_phase(db, 1, "sample", &done, &total, &err));
    assert_true(done == 8 && total == 8);
    REFUSED(sp_rundb_put_phase(db, 1, "sample", 9, 8, &err), INVALID, "CHECK");
    sp_rundb_close(db);
}

static spar_status check_score(void *context, const sp_rundb_score *row, spar_error *err) {
    int *n = context;
    (void)err;
    assert_int_equal(row->sample, 1);
    if (*n == 0) {
        assert_string_equal(row->name, "judge");
        assert_true(isnan(row->strict) && isnan(row->lenient) && row->value == -0.25);
    } else {
        assert_string_equal(row->name, "verifier");
        assert_true(row->strict == 0.0 && row->lenient == 1.0 && isnan(row->value));
    }
    ++*n;
    return SPAR_OK;
}

static spar_status check_pair(void *context, const sp_rundb_pair *row, spar_error *err) {
    int *n = context;
    (void)err;
    assert_int_equal(row->chosen, *n == 0 ? 0 : 1);
    assert_int_equal(row->rejected, *n == 0 ? 1 : 2);
    assert_true(row->kept == (*n == 0));
    assert_string_equal(row->reason, *n == 0 ? "real" : "equal score");
    ++*n;
    return SPAR_OK;
}

static void test_scores_and_pairs(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb_score verified = {1, "verifier", 1.0, 1.0, (double)NAN};
    sp_rundb_score judged = {1, "judge", (double)NAN, (double)NAN, -0.25};
    sp_rundb_pair real = {0, 1, 1, 0, 1, true, "real"};
    sp_rundb_pair tie = {0, 1, 1, 1, 2, false, "equal score"}, same = {0, 1, 1, 2, 2, true, "-"};
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    OK(sp_rundb_put_score(db, &verified, &err));
    verified.strict = 0.0;
    OK(sp_rundb_put_score(db, &verified, &err)); /* replaces */
    OK(sp_rundb_put_score(db, &judged, &err));
    OK(sp_rundb_put_pair(db, &real, NULL, &err));
    OK(sp_rundb_put_pair(db, &tie, NULL, &err));
    REFUSED(sp_rundb_put_pair(db, &same, NULL, &err), INVALID, "CHECK");
    OK(sp_rundb_each_score(db, 1, check_score, &n, &err));
    assert_int_equal(n, 2);
    n = 0;
    OK(sp_rundb_each_pair(db, 1, check_pair, &n, &err));
    assert_int_equal(n, 2);
    sp_rundb_close(db);
}

static spar_status check_metric(void *context, const sp_rundb_metric *row, spar_error *err) {
    int *n = context;
    (void)err;
    assert_string_equal(row->name, "loss");
    assert_int_equal(row->step, *n);
    assert_true(*n == 2 ? isnan(row->value) : row->value == 0.5 + *n);
    ++*n;
    return SPAR_OK;
}

static spar_status check_evaluation(void *context, const sp_rundb_evaluation *row,
                                    spar_error *err) {
    (void)err;
    ++*(int *)context;
    assert_string_equal(row->set, "gate");
    assert_int_equal(row->prompt, 1);
    assert_true(row->strict == 0.0 && row->lenient == 1.0);
    assert_string_equal(row->response, "two");
    return SPAR_OK;
}

static spar_status check_checkpoint(void *context, const sp_rundb_checkpoint *row,
                                    spar_error *err) {
    (void)err;
    ++*(int *)context;
    assert_string_equal(row->path, "checkpoints/it0");
    assert_string_equal(row->fingerprint, "abc");
    assert_int_equal(row->step, 40);
    assert_false(row->kept);
    return SPAR_OK;
}

static void test_metrics_and_the_rest(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb_metric metric = {1, 0, "loss", 9.0};
    sp_rundb_evaluation evaluation = {1, 1, "gate", 0.0, 1.0, "two"};
    sp_rundb_checkpoint checkpoint = {0, 1, 40, "checkpoints/it0", "abc", true};
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    OK(sp_rundb_put_metric(db, &metric, &err));
    for (metric.step = 2; metric.step >= 0; metric.step--) {
        metric.value = metric.step == 2 ? (double)NAN : 0.5 + (double)metric.step;
        OK(sp_rundb_put_metric(db, &metric, &err));
    }
    OK(sp_rundb_each_metric(db, 1, NULL, check_metric, &n, &err));
    assert_int_equal(n, 3);
    OK(sp_rundb_each_metric(db, 1, "margin", check_metric, &n, &err));
    assert_int_equal(n, 3);
    n = 0;
    OK(sp_rundb_put_evaluation(db, &evaluation, &err));
    REFUSED(sp_rundb_put_evaluation(db, &evaluation, &err), INVALID, "UNIQUE");
    OK(sp_rundb_each_evaluation(db, 1, "gate", check_evaluation, &n, &err));
    OK(sp_rundb_each_evaluation(db, 1, NULL, check_evaluation, &n, &err));
    OK(sp_rundb_each_evaluation(db, 1, "train", check_evaluation, &n, &err));
    assert_int_equal(n, 2);
    n = 0;
    OK(sp_rundb_put_checkpoint(db, &checkpoint, NULL, &err));
    OK(sp_rundb_set_checkpoint_kept(db, 1, false, &err));
    OK(sp_rundb_each_checkpoint(db, 0, check_checkpoint, &n, &err));
    OK(sp_rundb_each_checkpoint(db, 1, check_checkpoint, &n, &err));
    OK(sp_rundb_each_checkpoint(db, 2, check_checkpoint, &n, &err));
    assert_int_equal(n, 2);
    REFUSED(sp_rundb_set_checkpoint_kept(db, 2, false, &err), NOT_FOUND, "no row 2");
    static const char *const outside[] = {"", "/tmp/x", "..", "../x", "a/../../x", "a/.."};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        checkpoint.path = outside[i];
        REFUSED(sp_rundb_put_checkpoint(db, &checkpoint, NULL, &err), INVALID, "CHECK");
    }
    checkpoint.path = "a..b/c"; /* dots inside a name are no way out */
    OK(sp_rundb_put_checkpoint(db, &checkpoint, NULL, &err));
    sp_rundb_close(db);
}

static const double matrix[] = {0.5, 0.25, 0.75, 0.5}, ratings[] = {-1.0, 1e300};

static spar_status check_judgement(void *context, const sp_rundb_judgement *row, spar_error *err) {
    (void)err;
    ++*(int *)context;
    assert_int_equal(row->k, 2);
    assert_memory_equal(row->p, matrix, sizeof matrix);
    assert_memory_equal(row->scores, ratings, sizeof ratings);
    assert_null(row->logits);
    assert_true(row->seconds == 0.125 && row->tokens == 77 && row->prompt == 1);
    return SPAR_OK;
}

static void test_judgements(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb_judgement judgement = {1, 1, "train", 2, matrix, NULL, ratings, 0.125, 77};
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    OK(sp_rundb_put_judgement(db, &judgement, &err));
    REFUSED(sp_rundb_put_judgement(db, &judgement, &err), INVALID, "UNIQUE");
    judgement.judge = "other";
    judgement.k = 0;
    REFUSED(sp_rundb_put_judgement(db, &judgement, &err), INVALID, "0 responses");
    OK(sp_rundb_each_judgement(db, 1, "train", check_judgement, &n, &err));
    OK(sp_rundb_each_judgement(db, 1, "other", check_judgement, &n, &err));
    assert_int_equal(n, 1);
    sp_rundb_close(db);
    meddle(
        "PRAGMA ignore_check_constraints = ON; UPDATE judgements SET scores = x'0001020304050607'");
    db = open_run(SP_RUNDB_READ);
    REFUSED(sp_rundb_each_judgement(db, 1, "train", check_judgement, &n, &err), FORMAT, "scores");
    sp_rundb_close(db);
}

static spar_status check_steps(void *context, const sp_rundb_steps *row, spar_error *err) {
    int *n = context;
    (void)err;
    assert_int_equal(row->response, *n);
    assert_int_equal(row->n, 2 - *n);
    assert_memory_equal(row->scores, ratings, (size_t)row->n * sizeof *ratings);
    ++*n;
    return SPAR_OK;
}

static void test_steps(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb_steps steps = {1, 1, "train", 1, ratings, 1};
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    OK(sp_rundb_put_steps(db, &steps, &err));
    REFUSED(sp_rundb_put_steps(db, &steps, &err), INVALID, "UNIQUE");
    steps.response = 0;
    steps.n = 0;
    REFUSED(sp_rundb_put_steps(db, &steps, &err), INVALID, "CHECK");
    steps.n = -1;
    REFUSED(sp_rundb_put_steps(db, &steps, &err), INVALID, "found -1");
    steps.n = INT64_MAX / 2; /* times 8 wraps around */
    REFUSED(sp_rundb_put_steps(db, &steps, &err), INVALID, "adding steps");
    steps.n = 2;
    OK(sp_rundb_put_steps(db, &steps, &err));
    OK(sp_rundb_each_steps(db, 1, "train", 1, check_steps, &n, &err));
    assert_int_equal(n, 2);
    OK(sp_rundb_each_steps(db, 1, "train", 2, check_steps, &n, &err));
    OK(sp_rundb_each_steps(db, 1, "report", 1, check_steps, &n, &err));
    assert_int_equal(n, 2);
    sp_rundb_close(db);
    n = 0;
    meddle("PRAGMA ignore_check_constraints = ON; UPDATE steps SET scores = x'00010203'");
    db = open_run(SP_RUNDB_READ);
    REFUSED(sp_rundb_each_steps(db, 1, "train", 1, check_steps, &n, &err), FORMAT, "scores");
    sp_rundb_close(db);
}

static spar_status check_work(void *context, const sp_rundb_work *row, spar_error *err) {
    static const sp_rundb_work rows[] = {
        {1, "sample", 1, 0.5, 0.25}, {1, "train", 1, 3, 2}, {1, "train", 2, 1, 1}};
    int *n = context;
    const sp_rundb_work *want = &rows[*n % 3];
    (void)err;
    assert_int_equal(row->stage, want->stage);
    assert_string_equal(row->phase, want->phase);
    assert_int_equal(row->segment, want->segment);
    assert_true(row->cpu == want->cpu && row->seconds == want->seconds);
    ++*n;
    return SPAR_OK;
}

static void test_work(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    sp_rundb_work work = {1, "train", 2, 1, 1};
    OK(sp_rundb_put_work(db, &work, &err));
    work = (sp_rundb_work){1, "train", 1, 2, 1};
    OK(sp_rundb_put_work(db, &work, &err));
    work.cpu = 3; /* a put replaces */
    work.seconds = 2;
    OK(sp_rundb_put_work(db, &work, &err));
    work = (sp_rundb_work){1, "sample", 1, 0.5, 0.25};
    OK(sp_rundb_put_work(db, &work, &err));
    OK(sp_rundb_each_work(db, 1, check_work, &n, &err));
    assert_int_equal(n, 3);
    OK(sp_rundb_each_work(db, 2, check_work, &n, &err));
    assert_int_equal(n, 3);
    work.segment = 0;
    REFUSED(sp_rundb_put_work(db, &work, &err), INVALID, "CHECK");
    work = (sp_rundb_work){99, "sample", 1, 0.5, 0.25};
    REFUSED(sp_rundb_put_work(db, &work, &err), INVALID, "FOREIGN KEY");
    sp_rundb_close(db);
}

/* A run of the first version is read as it is, and gets the later tables when it goes on. */
static void test_older_version(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    sp_rundb_close(db);
    meddle("DROP TABLE judgements; DROP TABLE replies; DROP TABLE steps; DROP TABLE work; "
           "PRAGMA user_version = 1");
    db = open_run(SP_RUNDB_READ);
    OK(sp_rundb_each_judgement(db, 1, "train", check_judgement, &n, &err));
    OK(sp_rundb_each_work(db, 1, check_work, &n, &err));
    sp_rundb_close(db);
    sp_rundb_close(open_run(SP_RUNDB_RESUME));
    db = open_run(SP_RUNDB_RESUME);
    const sp_rundb_judgement judgement = {1, 1, "train", 2, matrix, NULL, ratings, 0.125, 77};
    OK(sp_rundb_put_judgement(db, &judgement, &err));
    OK(sp_rundb_each_judgement(db, 1, "train", check_judgement, &n, &err));
    assert_int_equal(n, 1);
    sp_rundb_close(db);
}

static void test_replies(void **state) {
    (void)state;
    spar_error err;
    char *reply;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    OK(sp_rundb_get_reply(db, "a", &reply, &err));
    assert_null(reply);
    OK(sp_rundb_put_reply(db, "a", "first", &err));
    OK(sp_rundb_put_reply(db, "b", "other", &err));
    OK(sp_rundb_put_reply(db, "a", "second", &err));
    sp_rundb_close(db);
    db = open_run(SP_RUNDB_READ);
    OK(sp_rundb_get_reply(db, "a", &reply, &err));
    assert_string_equal(reply, "second");
    free(reply);
    sp_rundb_close(db);
}

static void test_meta(void **state) {
    (void)state;
    spar_error err;
    char *value = NULL;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    OK(sp_rundb_put_meta(db, "seed", "1", &err));
    OK(sp_rundb_put_meta(db, "seed", "7", &err));
    sp_rundb_close(db);
    db = open_run(SP_RUNDB_RESUME);
    OK(sp_rundb_get_meta(db, "seed", &value, &err));
    assert_string_equal(value, "7");
    free(value);
    REFUSED(sp_rundb_get_meta(db, "recipe", &value, &err), NOT_FOUND, "'recipe'");
    assert_null(value);
    REFUSED(sp_rundb_put_meta(db, "recipe", NULL, &err), INVALID, "NOT NULL");
    sp_rundb_close(db);
}

/* ---- rows that are refused ---- */

static void test_refused_rows(void **state) {
    (void)state;
    spar_error err;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    sp_rundb_sample sample = a_sample;
    REFUSED(sp_rundb_put_sample(db, &sample, NULL, &err), INVALID, "UNIQUE");
    sample.index = 2;
    sample.prompt = 44;
    REFUSED(sp_rundb_put_sample(db, &sample, NULL, &err), INVALID, "FOREIGN KEY");
    sample = a_sample;
    sample.stage = 44;
    REFUSED(sp_rundb_put_sample(db, &sample, NULL, &err), INVALID, "FOREIGN KEY");
    sample.n_tokens = -1;
    REFUSED(sp_rundb_put_sample(db, &sample, NULL, &err), INVALID, "-1 tokens");
    sample.n_tokens = INT64_MAX / 8;
    REFUSED(sp_rundb_put_sample(db, &sample, NULL, &err), LIMIT, "too big");
    sp_rundb_pair pair = {0, 1, 1, 0, 99, true, "real"};
    REFUSED(sp_rundb_put_pair(db, &pair, NULL, &err), INVALID, "FOREIGN KEY");
    sp_rundb_score score = {99, "judge", 0, 0, 0};
    REFUSED(sp_rundb_put_score(db, &score, &err), INVALID, "FOREIGN KEY");
    sp_rundb_prompt prompt = a_prompt;
    prompt.set = "dev";
    REFUSED(sp_rundb_put_prompt(db, &prompt, NULL, &err), INVALID, "CHECK");
    prompt = a_prompt;
    prompt.id = 1;
    REFUSED(sp_rundb_put_prompt(db, &prompt, NULL, &err), INVALID, "UNIQUE");
    prompt.id = -3;
    REFUSED(sp_rundb_put_prompt(db, &prompt, NULL, &err), INVALID, "CHECK");
    OK(sp_rundb_check(db, &err)); /* the handle is still good */
    sp_rundb_close(db);
}

static spar_status stop_walk(void *context, const sp_rundb_sample *row, spar_error *err) {
    ++*(int *)context;
    return spar_fail(err, SPAR_INTERRUPTED, "%s: enough at %d", path, (int)row->id);
}

static spar_status walk_again(void *context, const sp_rundb_sample *row, spar_error *err) {
    int64_t done = 0, total = 0;
    (void)row;
    /* Other queries are fine inside a walk; the same one is not. */
    assert_int_equal(sp_rundb_get_phase(context, 1, "x", &done, &total, err), SPAR_OK);
    return sp_rundb_each_sample(context, 1, walk_again, context, err);
}

static void test_walks(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    REFUSED(sp_rundb_each_sample(db, 1, stop_walk, &n, &err), INTERRUPTED, "enough at 1");
    assert_int_equal(n, 1);
    REFUSED(sp_rundb_each_sample(db, 1, walk_again, db, &err), INTERNAL, "inside itself");
    n = 0;
    OK(sp_rundb_each_sample(db, 1, check_sample, &n, &err)); /* both ended cleanly */
    assert_int_equal(n, 2);
    for (long k = 1; k <= 2; k++) {
        n = 0;
        sp_mem_fail_at(k);
        assert_int_equal(sp_rundb_each_sample(db, 1, check_sample, &n, &err), SPAR_NO_MEMORY);
        sp_mem_fail_at(0);
    }
    sp_rundb_close(db);
    for (long k = 1; k <= 2; k++) {
        sp_mem_fail_at(k);
        assert_int_equal(sp_rundb_open(&db, path, SP_RUNDB_READ, &err), SPAR_NO_MEMORY);
        sp_mem_fail_at(0);
        assert_null(db);
    }
}

/* ---- transactions, kills, a full disk ---- */

static int64_t count_prompts(sp_rundb *db) {
    spar_error err;
    int64_t n = 0;
    OK(sp_rundb_count_prompts(db, NULL, &n, &err));
    return n;
}

static void test_transactions(void **state) {
    (void)state;
    spar_error err;
    int64_t id = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    sp_rundb_rollback(db);
    OK(sp_rundb_begin(db, &err));
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    REFUSED(sp_rundb_begin(db, &err), INTERNAL, "inside another");
    sp_rundb_rollback(db);
    assert_int_equal(count_prompts(db), 0);
    OK(sp_rundb_begin(db, &err));
    OK(sp_rundb_put_prompt(db, &a_prompt, &id, &err));
    assert_int_equal(id, 1); /* the id of the row rolled back is given again */
    OK(sp_rundb_commit(db, &err));
    assert_int_equal(count_prompts(db), 1);
    OK(sp_rundb_begin(db, &err));
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    sp_rundb_close(db); /* without a commit */
    db = open_run(SP_RUNDB_RESUME);
    assert_int_equal(count_prompts(db), 1);
    sp_rundb_close(db);
}

/* SQLite may end a transaction by itself when a write fails: no later put slips out alone. */
static void test_lost_transaction(void **state) {
    (void)state;
    spar_error err;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    REFUSED(sp_rundb_commit(db, &err), INTERNAL, "no transaction");
    OK(sp_rundb_begin(db, &err));
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    assert_int_equal(sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    REFUSED(sp_rundb_put_prompt(db, &a_prompt, NULL, &err), INTERNAL, "ended the transaction");
    REFUSED(sp_rundb_commit(db, &err), INTERNAL, "earlier failure");
    assert_int_equal(count_prompts(db), 0);
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    sp_rundb_close(db);
}

/* A writer that commits one phase and is killed inside the next. */
static void write_and_die(void) {
    spar_error err;
    sp_rundb *db = NULL;
    spar_status status = sp_rundb_open(&db, path, SP_RUNDB_CREATE, &err);
    for (int phase = 0; phase < 2 && status == SPAR_OK; phase++) {
        status = sp_rundb_begin(db, &err);
        for (int i = 0; i < 500 && status == SPAR_OK; i++) {
            status = sp_rundb_put_prompt(db, &a_prompt, NULL, &err);
        }
        if (phase == 0 && status == SPAR_OK) {
            status = sp_rundb_commit(db, &err);
        }
    }
    if (status == SPAR_OK) {
        raise(SIGKILL);
    }
    _exit(1);
}

static void test_killed_writer(void **state) {
    (void)state;
    spar_error err;
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        write_and_die();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    sp_rundb *db = open_run(SP_RUNDB_RESUME);
    assert_int_equal(count_prompts(db), 500);
    OK(sp_rundb_check(db, &err));
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    sp_rundb_close(db);
}

static void test_full_disk(void **state) {
    (void)state;
    spar_error err;
    spar_status status = SPAR_OK;
    sp_rundb_prompt prompt = a_prompt;
    char *text = calloc(1, 100001);
    memset(text, 'x', 100000);
    prompt.messages = text;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    sp_rundb_limit_pages(db, 60);
    OK(sp_rundb_begin(db, &err));
    for (int i = 0; i < 10 && status == SPAR_OK; i++) {
        status = sp_rundb_put_prompt(db, &prompt, NULL, &err);
    }
    REFUSED(status, IO, "full");
    sp_rundb_rollback(db);
    assert_int_equal(count_prompts(db), 1);
    sp_rundb_limit_pages(db, 1000000);
    OK(sp_rundb_put_prompt(db, &prompt, NULL, &err));
    sp_rundb_close(db);
    free(text);
}

static void test_busy(void **state) {
    (void)state;
    spar_error err;
    sp_rundb *first = open_run(SP_RUNDB_CREATE), *second = open_run(SP_RUNDB_RESUME);
    sqlite3_busy_timeout(second->sqlite, 10);
    OK(sp_rundb_begin(first, &err));
    OK(sp_rundb_put_prompt(first, &a_prompt, NULL, &err));
    REFUSED(sp_rundb_begin(second, &err), BUSY, "locked");
    assert_int_equal(count_prompts(second), 0); /* readers see the last commit */
    OK(sp_rundb_commit(first, &err));
    assert_int_equal(count_prompts(second), 1);
    sp_rundb_close(first);
    sp_rundb_close(second);
}

/* ---- files that are refused ---- */

static void refuse_open(sp_rundb_mode mode, spar_status expected, const char *part) {
    sp_rundb *db = NULL;
    spar_error err;
    spar_status status = sp_rundb_open(&db, path, mode, &err);
    refused_at(status, expected, &err, part, __LINE__);
    assert_null(db);
}

static void test_create_and_resume(void **state) {
    (void)state;
    refuse_open(SP_RUNDB_RESUME, SPAR_NOT_FOUND, "no run database");
    refuse_open(SP_RUNDB_READ, SPAR_NOT_FOUND, "no run database");
    assert_false(sp_file_exists(path));
    meddle("PRAGMA journal_mode = WAL"); /* what a creation cut short leaves */
    refuse_open(SP_RUNDB_RESUME, SPAR_FORMAT, "cut short");
    sp_rundb_close(open_run(SP_RUNDB_CREATE));
    refuse_open(SP_RUNDB_CREATE, SPAR_INVALID, "already holds a run");
    sp_rundb_close(open_run(SP_RUNDB_RESUME));
}

static void test_foreign_databases(void **state) {
    (void)state;
    spar_error err;
    sp_rundb_close(open_run(SP_RUNDB_CREATE));
    meddle("PRAGMA user_version = 1000");
    refuse_open(SP_RUNDB_RESUME, SPAR_MISMATCH, "newer spar");
    refuse_open(SP_RUNDB_CREATE, SPAR_MISMATCH, "newer spar");
    meddle("PRAGMA user_version = 5; PRAGMA application_id = 7");
    refuse_open(SP_RUNDB_RESUME, SPAR_MISMATCH, "another program");
    meddle("PRAGMA application_id = 1936744818; DROP TABLE scores");
    sp_rundb *db = open_run(SP_RUNDB_RESUME);
    sp_rundb_score score = {1, "judge", 0, 0, 0};
    REFUSED(sp_rundb_put_score(db, &score, &err), FORMAT, "no such table");
    sp_rundb_close(db);
    assert_int_equal(unlink(path), 0);
    meddle("CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1)");
    refuse_open(SP_RUNDB_CREATE, SPAR_MISMATCH, "another program");
    meddle("INSERT INTO theirs VALUES(2)"); /* left as it was */
    OK(sp_file_write(path, "not a database, but long enough to be looked at", 47, &err));
    refuse_open(SP_RUNDB_RESUME, SPAR_FORMAT, "not a database");
}

/* Values that our own schema would have refused. */
static void test_hostile_rows(void **state) {
    (void)state;
    spar_error err;
    int n = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    sp_rundb_close(db);
    meddle("PRAGMA ignore_check_constraints = ON; UPDATE samples SET tokens = x'0102030405', "
           "logprobs = NULL WHERE id = 1; UPDATE samples SET logprobs = x'00000000' WHERE id = 2");
    db = open_run(SP_RUNDB_READ);
    REFUSED(sp_rundb_get_sample(db, 1, check_sample, &n, &err), FORMAT, "tokens");
    REFUSED(sp_rundb_get_sample(db, 2, check_sample, &n, &err), FORMAT, "logprobs");
    assert_int_equal(n, 0);
    sp_rundb_close(db);
}

/* Cut anywhere before its last page, the file is refused on opening or by the check, never read as
 * whole. What the last page lacks SQLite takes for zeros. */
static void test_truncated(void **state) {
    (void)state;
    spar_error err;
    char *whole = NULL;
    size_t size = 0;
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    put_basics(db);
    for (int i = 0; i < 200; i++) {
        OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    }
    sp_rundb_close(db);
    OK(sp_file_read(path, 1 << 24, &whole, &size, &err));
    for (size_t cut = 1; cut + 4096 <= size; cut += cut < 200 ? 33 : 1021) {
        OK(sp_file_write(path, whole, cut, &err));
        spar_status status = sp_rundb_open(&db, path, SP_RUNDB_RESUME, &err);
        if (status == SPAR_OK) {
            status = sp_rundb_check(db, &err);
        }
        REFUSED(status, FORMAT, "");
        sp_rundb_close(db);
    }
    OK(sp_file_write(path, whole, size / 2, &err)); /* whole pages lost: seen at once */
    refuse_open(SP_RUNDB_READ, SPAR_FORMAT, "malformed");
    free(whole);
}

/* Opens as a user who may not write; root may always, and becomes nobody first. */
static void open_as_nobody(sp_rundb_mode mode, spar_status expected, const char *part) {
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sp_rundb *db = NULL;
        spar_error err = {0};
        if (geteuid() == 0 && setuid(65534) != 0) {
            _exit(2);
        }
        spar_status found = sp_rundb_open(&db, path, mode, &err);
        int64_t n = 0;
        if (found == SPAR_OK) {
            found = sp_rundb_count_prompts(db, NULL, &n, &err);
        }
        bool named =
            found == SPAR_OK ? n == 1 : strstr(err.message, path) && strstr(err.message, part);
        if (found != expected || !named) {
            fprintf(stderr, "%s: %s\n", spar_status_name(found), err.message);
        }
        _exit(found == expected && named ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_read_only_folder(void **state) {
    (void)state;
    spar_error err;
    assert_int_equal(chmod(dir, 0555), 0);
    open_as_nobody(SP_RUNDB_CREATE, SPAR_IO, "unable to open database file");
    assert_int_equal(chmod(dir, 0755), 0);
    test_path(path, dir, "100%?#.db"); /* characters with a meaning in SQLite's URIs */
    sp_rundb *db = open_run(SP_RUNDB_CREATE);
    OK(sp_rundb_put_prompt(db, &a_prompt, NULL, &err));
    sp_rundb_close(db);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    open_as_nobody(SP_RUNDB_RESUME, SPAR_IO, "no permission to write");
    open_as_nobody(SP_RUNDB_READ, SPAR_OK, ""); /* an archived run can be reported on */
    assert_int_equal(chmod(dir, 0755), 0);
    test_path(path, dir, "missing/run.db");
    refuse_open(SP_RUNDB_CREATE, SPAR_IO, "unable to open database file");
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void) {
    const struct CMUnitTest tests[] = {
        ROW(test_prompts_and_samples),
        ROW(test_stages_and_phases),
        ROW(test_scores_and_pairs),
        ROW(test_metrics_and_the_rest),
        ROW(test_judgements),
        ROW(test_steps),
        ROW(test_work),
        ROW(test_older_version),
        ROW(test_replies),
        ROW(test_meta),
        ROW(test_refused_rows),
        ROW(test_walks),
        ROW(test_transactions),
        ROW(test_lost_transaction),
        ROW(test_killed_writer),
        ROW(test_full_disk),
        ROW(test_busy),
        ROW(test_create_and_resume),
        ROW(test_foreign_databases),
        ROW(test_hostile_rows),
        ROW(test_truncated),
        ROW(test_read_only_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
