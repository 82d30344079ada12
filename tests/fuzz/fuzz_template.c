/* Any bytes as a chat template, rendered on one conversation; what generation blocks wrote of the
 * text, where that is known, are parts of it in order. */
#include <jansson.h>
#include <string.h>

#include "fuzz.h"
#include "spar/chat_template.h"

static json_t *conversation(void) {
    return json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s, s:[]}]", "role", "system", "content",
                     "Be brief.", "role", "user", "content", " 2+2? ", "role", "assistant",
                     "content", "4", "tool_calls");
}

static void look_at_spans(const spar_template *t, const json_t *messages,
                          const spar_render_options *options, const char *plain) {
    spar_text_span *spans;
    char *text = NULL;
    size_t n, n_spans, at = 0;
    spar_error err = {SPAR_OK, ""};
    const spar_status status =
        spar_template_render_spans(t, messages, options, &text, &n, &spans, &n_spans, &err);
    fuzz_check(status, &err);
    bool good = status != SPAR_OK || (plain != NULL && strlen(plain) <= n);
    for (size_t i = 0; status == SPAR_OK && i < n_spans; i++) {
        good = good && spans[i].begin >= at && spans[i].end >= spans[i].begin && spans[i].end <= n;
        at = spans[i].end;
    }
    if (!good || (status == SPAR_OK && strcmp(plain, text) != 0)) {
        fprintf(stderr, "spans that are no parts of the text, or another text\n");
        abort();
    }
    free(text);
    free(spans);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const spar_render_options options = {
        .add_generation_prompt = true, .bos = "<s>", .eos = "</s>", .now = "2024-02-29"};
    spar_template *t = NULL;
    char *text = NULL;
    spar_error err = {SPAR_OK, ""};
    spar_status status = spar_template_compile(&t, (const char *)data, size, "input", &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        json_t *messages = conversation();
        fuzz_check(spar_template_render(t, messages, &options, &text, NULL, &err), &err);
        look_at_spans(t, messages, &options, text);
        json_decref(messages);
        free(text);
        spar_template_free(t);
    }
    return 0;
}
