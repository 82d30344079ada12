/* Prompts that ask a language model for a verdict: data with slots, read from files.
 *
 * Two layouts are read, those of the benchmarks that the prompts come from: rows of JSON Lines with
 * name, type (pairwise or single), system_prompt, prompt_template and output_format ([[A]] or
 * [[rating]]), as MT-Bench has them (arXiv 2306.05685); and a text in ChatML whose answer is m or
 * M, as the weighted annotator of AlpacaEval 2 has it. The program has prompts of its own in both
 * layouts (prompts/). A file is data: slots in braces are filled once, and nothing is executed.
 *
 * Slots: question, instruction (the whole prompt); question_N (its N-th user message); answer,
 * answer_a, answer_b, output_1, output_2 (the responses); answer_N, answer_a_N, answer_b_N (the
 * prompt's N-th assistant message, or the response where N is the turn that it answers);
 * ref_answer_N, reference (what the row has as reference: a string, or a list of N of them).
 */
#ifndef SP_JUDGE_PROMPT_H
#define SP_JUDGE_PROMPT_H

#include "judge/kind.h"

enum { SP_JUDGE_MAX_VERDICTS = 10 };

typedef struct sp_judge_prompt {
    json_t *messages; /* owned: [{"role", "content"}...] with slots */
    char *name;       /* owned: how the caller named it */
    bool pairwise;    /* of two responses; else of one */
    bool doubled;     /* "{{" stands for a brace (MT-Bench) */
    bool bracketed;   /* a verdict V is written [[V]], else V */
    int n_verdicts;   /* pairwise: the first, the second, and where there are three neither is
                       * better; single: the ratings 1 to 10 */
} sp_judge_prompt;

/* name: one of the program's own (pairwise, pairwise-reference, single, single-reference,
 * preference), FILE.jsonl or FILE.jsonl#NAME (the first row, or that of a name), or any other FILE
 * in ChatML. NULL is pairwise. Slots that are not known are refused here. */
spar_status sp_judge_prompt_load(sp_judge_prompt *out, const char *name, spar_error *err);
void sp_judge_prompt_release(sp_judge_prompt *prompt);

/* Of its messages' text, for provenance. */
uint64_t sp_judge_prompt_fingerprint(const sp_judge_prompt *prompt);

/* The v-th verdict with its brackets. */
void sp_judge_prompt_verdict(const sp_judge_prompt *prompt, int v, char *out, size_t n);

/* The messages with their slots filled for the responses a and b (pairwise; else a alone): a new
 * reference. */
spar_status sp_judge_prompt_fill(const sp_judge_prompt *prompt, const sp_judge_item *item, size_t a,
                                 size_t b, json_t **out, spar_error *err);

#endif
