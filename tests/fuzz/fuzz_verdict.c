/* Any bytes as what an endpoint replies, and as a prompt's file. */
#include <jansson.h>
#include <math.h>

#include "fuzz.h"
#include "judge/prompt.h"
#include "judge/verdict.h"

static void read_reply(const uint8_t *data, size_t size) {
    static const char *const names[] = {"pairwise", "single", "preference"};
    json_t *choice = json_loadb((const char *)data, size, 0, NULL);
    for (int i = 0; choice && i < 3; i++) {
        sp_judge_prompt prompt;
        spar_error err = {SPAR_OK, ""};
        double logps[SP_JUDGE_MAX_VERDICTS], sum = 0;
        fuzz_check(sp_judge_prompt_load(&prompt, names[i], &err), &err);
        const bool found = sp_judge_read_verdict(&prompt, choice, logps);
        for (int v = 0; v < prompt.n_verdicts; v++) {
            sum += exp(logps[v]);
        }
        if (!isfinite(sum) || (!found && sum > 0)) {
            abort(); /* a probability that is none, or of no verdict */
        }
        sp_judge_prompt_release(&prompt);
    }
    json_decref(choice);
}

static void fill_prompt(const char *path) {
    sp_judge_prompt prompt;
    spar_error err = {SPAR_OK, ""};
    json_t *messages, *row = json_pack("{s:s, s:[s, s], s:s}", "prompt", "{output_1}", "responses",
                                       "a", "b", "reference", "r");
    const sp_judge_item item = {.k = 2,
                                .responses = json_object_get(row, "responses"),
                                .prompt = json_object_get(row, "prompt"),
                                .reference = json_object_get(row, "reference")};
    const spar_status status = sp_judge_prompt_load(&prompt, path, &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        fuzz_check(sp_judge_prompt_fill(&prompt, &item, 0, 1, &messages, &err), &err);
        json_decref(messages);
        sp_judge_prompt_release(&prompt);
    }
    json_decref(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_reply(data, size);
    fill_prompt(fuzz_path(data, size));
    return 0;
}
