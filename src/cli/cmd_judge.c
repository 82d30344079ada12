/* spar judge: which of a prompt's responses is better, by any kind of judge. */
#include "cli.h"
#include "spar/judge.h"

typedef struct judge_values {
    const char *judge, *data, *prompt, *cache;
    spar_endpoint endpoint;
    double time_limit;
    int64_t memory_limit, threads, explain;
    spar_step_rules process;
    double tau;
    int dtype, write;
} judge_values;

#define JUDGE(field) offsetof(judge_values, field)
static const spar_option judge_options[] = {
    {"judge", 0, SPAR_OPTION_STRING, JUDGE(judge), NULL, 0, 0, NULL, "KIND[:MODEL]",
     "verifier:exact, number, choice, regex, set, or verifier: and the name of a task family; "
     "program: and a shell command; pairrm:, reward:, preference: or process: (prm:) and a folder "
     "with such a model; llm: and a model that chats; api: (endpoint:) and the name of a model at "
     "--endpoint; "
     "ensemble: and a list WEIGHT*KIND:MODEL;KIND:MODEL"},
    {"data", 'd', SPAR_OPTION_STRING, JUDGE(data), "-", 0, 0, NULL, "FILE",
     "rows to judge; - is standard input"},
    {"time-limit", 0, SPAR_OPTION_NUMBER, JUDGE(time_limit), "10", 0.01, 86400, NULL, "SECONDS",
     "longest that a program may take for a row"},
    {"memory-limit", 0, SPAR_OPTION_INT, JUDGE(memory_limit), "1024", 1, 1 << 24, NULL, "MIB",
     "most memory that a program's process may map"},
    {"prompt", 0, SPAR_OPTION_STRING, JUDGE(prompt), "pairwise", 0, 0, NULL, "NAME",
     "how an llm is asked: pairwise, pairwise-reference, single, single-reference, preference, "
     "FILE.jsonl#NAME in the layout of MT-Bench, or another file in that of AlpacaEval"},
    {"explain", 0, SPAR_OPTION_INT, JUDGE(explain), "0", 0, 1 << 20, NULL, "N",
     "tokens that an llm may write before a verdict in brackets"},
    SPAR_ENDPOINT_ROWS(judge_values, endpoint),
    SPAR_STEP_ROWS(judge_values, process),
    {"tau", 0, SPAR_OPTION_NUMBER, JUDGE(tau), "0.1", 1e-6, 1e6, NULL, "X",
     "what a general preference model's score is divided by"},
    {"write", 0, SPAR_OPTION_CHOICE, JUDGE(write), "judgements", 0, 0,
     "judgements|best|pairs|step-pairs|groups", "WHAT",
     "judgements, or rows to train on: the best response, the best against the worst, the two that "
     "a process reward model tells apart most at the first step in which they differ, or all with "
     "their scores as rewards"},
    {"cache", 0, SPAR_OPTION_STRING, JUDGE(cache), NULL, 0, 0, NULL, "FILE",
     "keep the endpoint's replies here, and do not ask again for what is there"},
    {"dtype", 0, SPAR_OPTION_CHOICE, JUDGE(dtype), "f32", 0, 0, "f32|bf16", "TYPE",
     "matrix products of a model"},
    {"threads", 'j', SPAR_OPTION_INT, JUDGE(threads), "0", 0, 1024, NULL, "N",
     "threads of a model; 0: one a processor"},
    {0}};

typedef struct judging {
    spar_judge *judge;
    int write; /* 0: judgements; else a spar_judged_row behind it */
} judging;

static spar_status judge_row(void *context, const json_t *row, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const judging *j = context;
    spar_judgement judgement;
    SPAR_TRY(spar_judge_row(j->judge, row, &judgement, err));
    SPAR_TRY(j->write
                 ? spar_judgement_row(&judgement, row, (spar_judged_row)(j->write - 1), out, err)
                 : spar_judgement_json(j->judge, &judgement, out, err));
done:
    spar_judgement_release(&judgement);
    return status;
}

static spar_status ask_ahead(void *context, const json_t *const *rows, size_t n, spar_error *err) {
    const judging *j = context;
    return spar_judge_ahead(j->judge, rows, n, err);
}

static spar_status run_judge(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const judge_values *v = values;
    spar_judge *judge = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "none", err));
    if (!v->judge) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "--judge: expected KIND[:MODEL], found nothing"));
    }
    const spar_judge_options options = {.time_limit = v->time_limit,
                                        .memory_limit = (size_t)v->memory_limit,
                                        .dtype = v->dtype ? SPAR_DTYPE_BF16 : SPAR_DTYPE_F32,
                                        .threads = (int)v->threads,
                                        .prompt = v->prompt,
                                        .explain = v->explain,
                                        .process = v->process,
                                        .tau = v->tau,
                                        .endpoint = v->endpoint,
                                        .cache = v->cache,
                                        .stop = cli_interrupted};
    cli_catch_interrupt();
    SPAR_TRY(spar_judge_open(&judge, v->judge, &options, err));
    SPAR_TRY(cli_map_windows(v->data, spar_judge_lookahead(judge), ask_ahead, judge_row,
                             &(judging){judge, v->write}, err));
done:
    spar_judge_free(judge);
    return status;
}

static judge_values the_judge_values;
const cli_command cli_judge = {
    .doc = {.name = "judge",
            .synopsis = "--judge KIND[:MODEL] [--data FILE]",
            .summary = "win probabilities of the responses to a prompt",
            .details =
                "Reads JSON Lines {\"prompt\", \"responses\", \"reference\"} and writes one row "
                "for each: \"p\", the probability that response i is better than response j; "
                "\"scores\", \"best\", \"worst\", \"seconds\" and the judge. A verifier checks "
                "each response against \"reference\" (or \"answer\"). A program reads a row "
                "{\"prompt\", \"response\", \"reference\"} for each response and writes "
                "{\"score\"}. A model reads {\"prompt_ids\", \"responses_ids\"} too, and gives "
                "\"logits\". An llm is asked about each ordered pair, or for a rating of each "
                "response, and the probability of each verdict is read. A row that fails gives "
                "{\"error\"} in its place, and the exit status says so.",
            .options = judge_options},
    .run = run_judge,
    .values = &the_judge_values};
