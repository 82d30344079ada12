/* Any bytes as a chat template, rendered on one conversation. */
#include <jansson.h>

#include "fuzz.h"
#include "spar/chat_template.h"

static json_t *conversation(void) {
    return json_pack("[{s:s, s:s}, {s:s, s:s}, {s:s, s:s, s:[]}]", "role", "system", "content",
                     "Be brief.", "role", "user", "content", " 2+2? ", "role", "assistant",
                     "content", "4", "tool_calls");
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
        json_decref(messages);
        free(text);
        spar_template_free(t);
    }
    return 0;
}
