/* The user's rows: each layout, the wrong rows of each, and public data where it is at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "eval/dataset.h"
#include "support.h"
#include "text/conversation.h"

static char folder[TEST_PATH_MAX], path[TEST_PATH_MAX];

static void write_rows(const char *text) {
    assert_int_equal(sp_file_write(test_path(path, folder, "rows"), text, strlen(text), NULL),
                     SPAR_OK);
}

static void expect_where(const sp_dataset_row *row, int line) {
    char where[TEST_PATH_MAX + 32];
    snprintf(where, sizeof where, "%s:%d", path, line);
    assert_string_equal(row->where, where);
}

#define U "{\"role\":\"user\",\"content\":\"hi\"}"
#define A "{\"role\":\"assistant\",\"content\":\"yes\"}"
#define B "{\"role\":\"assistant\",\"content\":\"no\"}"
#define S "{\"role\":\"system\",\"content\":\"be brief\"}"

typedef struct layout_case {
    const char *row, *name, *messages, *response, *rejected;
} layout_case;

static const layout_case CASES[] = {
    {"{\"messages\":[" U "," A "]}", "messages", "[" U "]", "yes", NULL},
    {"{\"messages\":[" S "," U "," B "," U "," A "], \"id\":3}", "messages",
     "[" S "," U "," B "," U "]", "yes", NULL},
    {"{\"conversations\":[{\"from\":\"system\",\"value\":\"be brief\"},{\"from\":\"human\","
     "\"value\":\"hi\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}",
     "conversations", "[" S "," U "]", "yes", NULL},
    {"{\"prompt\":\"hi\",\"completion\":\"yes\"}", "prompt-completion", "[" U "]", "yes", NULL},
    {"{\"prompt\":[" S "," U "],\"completion\":[" A "]}", "prompt-completion", "[" S "," U "]",
     "yes", NULL},
    {"{\"instruction\":\"hi\",\"input\":\"\",\"output\":\"yes\"}", "instruction", "[" U "]", "yes",
     NULL},
    {"{\"instruction\":\"hi\",\"output\":\"yes\"}", "instruction", "[" U "]", "yes", NULL},
    {"{\"instruction\":\"hi\",\"input\":\"you\",\"output\":\"yes\"}", "instruction",
     "[{\"role\":\"user\",\"content\":\"hi\\n\\nyou\"}]", "yes", NULL},
    {"{\"instruction\":\"\",\"input\":\"hi\",\"output\":\"yes\"}", "instruction", "[" U "]", "yes",
     NULL},
    {"{\"instruction\":\"hi\",\"context\":\"you\",\"response\":\"yes\",\"category\":\"qa\"}",
     "instruction", "[{\"role\":\"user\",\"content\":\"hi\\n\\nyou\"}]", "yes", NULL},
    {"{\"prompt\":\"hi\",\"response\":\"yes\"}", "question-answer", "[" U "]", "yes", NULL},
    {"{\"question\":\"hi\",\"answer\":\"yes\"}", "question-answer", "[" U "]", "yes", NULL},
    {"{\"query\":\"hi\",\"response\":\"yes\",\"original_question\":\"?\"}", "question-answer",
     "[" U "]", "yes", NULL},
    {"{\"system_prompt\":\"be brief\",\"question\":\"hi\",\"response\":\"yes\"}", "question-answer",
     "[" S "," U "]", "yes", NULL},
    {"{\"input\":\"hi\",\"output\":\"yes\"}", "question-answer", "[" U "]", "yes", NULL},
    {"{\"system\":\"be brief\",\"question\":\"hi\",\"chosen\":\"yes\",\"rejected\":\"no\"}",
     "preference", "[" S "," U "]", "yes", "no"},
    {"{\"real\":[" U "," A "],\"generated\":[" U "," B "]}", "real-generated", "[" U "]", "yes",
     "no"},
    {"{\"prompt\":\"hi\",\"chosen\":\"yes\",\"rejected\":\"no\"}", "preference", "[" U "]", "yes",
     "no"},
    {"{\"prompt\":[" U "],\"chosen\":[" A "],\"rejected\":[" B "]}", "preference", "[" U "]", "yes",
     "no"},
    {"{\"prompt\":\"hi\",\"chosen\":[" U "," A "],\"rejected\":[" U "," B "]}", "preference",
     "[" U "]", "yes", "no"},
    {"{\"chosen\":[" U "," A "],\"rejected\":[" U "," B "]}", "preference", "[" U "]", "yes", "no"},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"hi\"}],\"chosen\":{\"from\":\"gpt\","
     "\"value\":\"yes\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"no\"}}",
     "preference", "[" U "]", "yes", "no"},
    {"{\"prompt\":\"hi\",\"chosen\":\"yes\",\"rejected\":\"no\",\"label\":false}", "preference",
     "[" U "]", "yes", "no"},
    {"{\"instruction\":\"hi\",\"input\":\"\",\"output\":\"other\",\"chosen\":\"yes\",\"rejected\":"
     "\"no\"}",
     "preference", "[" U "]", "yes", "no"},
    {"{\"chosen\":\"\\n\\nHuman: hi\\n\\nAssistant: yes\",\"rejected\":\"\\n\\nHuman: hi\\n\\n"
     "Assistant: no \"}",
     "transcripts", "[" U "]", "yes", "no"},
    {"{\"chosen\":\"Human: hi\\n\\nAssistant: yes\",\"rejected\":\"Human: hi\\n\\nAssistant: no\"}",
     "transcripts", "[" U "]", "yes", "no"},
    {"{\"chosen\":\"\\n\\nHuman: hi\\n\\nAssistant: no\\n\\nHuman: hi\\n\\nAssistant:yes\","
     "\"rejected\":\"\\n\\nHuman: hi\\n\\nAssistant: no\\n\\nHuman: hi\\n\\nAssistant:\"}",
     "transcripts", "[" U "," B "," U "]", "yes", ""},
};

static void test_layouts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const layout_case *c = &CASES[i];
        sp_dataset *data = NULL;
        spar_error err;
        write_rows(c->row);
        if (sp_dataset_load(&data, path, &err) != SPAR_OK) {
            fail_msg("%s: %s", c->row, err.message);
        }
        json_t *messages = json_loads(c->messages, 0, NULL);
        assert_int_equal(data->n, 1);
        assert_string_equal(data->name, c->name);
        assert_non_null(strstr(data->layout, "rows of "));
        assert_true(json_equal(data->rows[0].prompt, messages));
        assert_string_equal(sp_message_text(data->rows[0].response), c->response);
        assert_int_equal(data->rows[0].rejected != NULL, c->rejected != NULL);
        if (c->rejected != NULL) {
            assert_string_equal(sp_message_text(data->rows[0].rejected), c->rejected);
        }
        expect_where(&data->rows[0], 1);
        json_decref(messages);
        sp_dataset_free(data);
    }
    sp_dataset_free(NULL);
}

#define CALLS                                                                                      \
    "\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"now\",\"arguments\":{}}}]"
#define CALL "{\"role\":\"assistant\"," CALLS "}"
#define TOLD "{\"role\":\"tool\",\"name\":\"now\",\"tool_call_id\":\"1\",\"content\":\"noon\"}"
#define PARTS                                                                                      \
    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}],\"name\":\"Bo\"}"
#define THOUGHT "{\"role\":\"assistant\",\"reasoning_content\":\"hm\",\"content\":\"yes\"}"
#define NULLS "{\"role\":\"user\",\"content\":\"hi\",\"tool_calls\":null,\"name\":null}"
#define TOOLS "[{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]"
#define TOOLS_TEXT                                                                                 \
    "\"[{\\\"type\\\":\\\"function\\\",\\\"function\\\":{\\\"name\\\":\\\"now\\\"}}]\""

#define SHARED(turns) "{\"conversations\":[{\"from\":\"human\",\"value\":\"hi\"}," turns "]"

/* A row, its prompt and its response as they are kept. */
static const char *const WHOLE[][3] = {
    {"{\"messages\":[" PARTS "," CALL "," TOLD "," A "]}", "[" PARTS "," CALL "," TOLD "]", A},
    {"{\"messages\":[" U "," CALL "],\"tools\":" TOOLS "}",
     "{\"messages\":[" U "],\"tools\":" TOOLS "}", CALL},
    {"{\"messages\":[" U "," THOUGHT "],\"tools\":" TOOLS_TEXT
     ",\"documents\":[{\"title\":\"a\"}],\"chat_template_kwargs\":\"{\\\"enable\\\":true}\"}",
     "{\"messages\":[" U "],\"tools\":" TOOLS ",\"documents\":[{\"title\":\"a\"}],"
     "\"chat_template_kwargs\":{\"enable\":true}}",
     THOUGHT},
    {"{\"messages\":[" U "," A "],\"tools\":null,\"documents\":[],\"chat_template_kwargs\":\"\"}",
     "[" U "]", A},
    {"{\"prompt\":[" U "],\"completion\":[" CALL "],\"tools\":" TOOLS "}",
     "{\"messages\":[" U "],\"tools\":" TOOLS "}", CALL},
    {"{\"prompt\":[" PARTS "],\"chosen\":[" PARTS "," THOUGHT "],\"rejected\":[" CALL "]}",
     "[" PARTS "]", THOUGHT},
    {"{\"prompt\":[" U "],\"chosen\":[" NULLS "," A "],\"rejected\":[" B "]}", "[" U "]", A},
    {"{\"prompt\":[" U "],\"completion\":[" CALL "," TOLD "," A "],\"tools\":" TOOLS "}",
     "{\"messages\":[" U "],\"tools\":" TOOLS "}", "[" CALL "," TOLD "," A "]"},
    {"{\"prompt\":[" NULLS "],\"completion\":[" U "," CALL "," TOLD "," A "]}", "[" NULLS "]",
     "[" CALL "," TOLD "," A "]"},
    {"{\"prompt\":\"hi\",\"chosen\":[" B "," U "," A "],\"rejected\":\"no\"}", "[" U "]",
     "[" B "," U "," A "]"},
    {"{\"chosen\":[" U "," CALL "," TOLD "," A "],\"rejected\":[" U "," B "]}", "[" U "]",
     "[" CALL "," TOLD "," A "]"},
    {"{\"chosen\":[" U "," B "," U "," A "],\"rejected\":\"no\"}", "[" U "," B "," U "]", A},
    {"{\"real\":[" U "," A "," U "," B "],\"generated\":[" U "," A "," U "," B "]}",
     "[" U "," A "," U "]", B},
    {"{\"prompt\":\"hi\",\"chosen\":[" S "," U "," A "],\"rejected\":[" S "," U "," B "]}",
     "[" S "," U "]", A},
    {"{\"prompt\":null,\"messages\":[" U "," A "],\"completion\":null}", "[" U "]", A},
    {"{\"chosen\":\"\\n\\nHuman: hi\\n\\nAssistant: no\\n\\nHuman: hi\\n\\nAssistant:yes\","
     "\"rejected\":\"\\n\\nHuman: hi\\n\\nAssistant: other\"}",
     "[" U "]", "[" B "," U "," A "]"},
    {SHARED("{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"now\\\","
            "\\\"arguments\\\":{}}\"},"
            "{\"from\":\"observation\",\"value\":\"noon\"},{\"from\":\"gpt\",\"value\":"
            "\"yes\"}") ",\"system\":\"be brief\",\"tools\":\"[{\\\"name\\\":\\\"now\\\"}]\"}",
     "{\"messages\":[" S "," U ",{\"role\":\"assistant\",\"content\":\"\"," CALLS
     "},{\"role\":\"tool\",\"content\":\"noon\"}],\"tools\":" TOOLS "}",
     A},
    {"{\"messages\":\"[{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"hi\\\"},{\\\"role\\\":"
     "\\\"assistant\\\",\\\"content\\\":\\\"yes\\\"}]\",\"score_chosen\":null}",
     "[" U "]", A},
    {SHARED("{\"from\":\"function_call\",\"value\":[{\"name\":\"now\",\"arguments\":\"{}\"},"
            "{\"function\":{\"name\":\"now\",\"arguments\":{}}}]}") ",\"system\":null,\"images\":["
                                                                    "],\"tools\":\"\"}",
     "[" U "]",
     "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type\":\"function\","
     "\"function\":{"
     "\"name\":\"now\",\"arguments\":{}}},{\"type\":\"function\",\"function\":{\"name\":"
     "\"now\","
     "\"arguments\":{}}}]}"},
    {"{\"messages\":[{\"role\":\"human\",\"content\":\"hi\"},{\"role\":\"tool_call\","
     "\"content\":"
     "\"{\\\"name\\\":\\\"now\\\",\\\"arguments\\\":{}}\"},{\"role\":\"tool_response\","
     "\"content\":"
     "\"noon\"}," A "],\"tools\":[{\"name\":\"now\"}]}",
     "{\"messages\":[" U ",{\"role\":\"assistant\",\"content\":\"\"," CALLS
     "},{\"role\":\"tool\",\"content\":\"noon\"}],\"tools\":[{\"name\":\"now\"}]}",
     A},
    {"{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"function\","
     "\"content\":\"f\"},"
     "{\"role\":\"assistant\",\"content\":\"yes\"}]}",
     "[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"function\",\"content\":\"f\"}]", A},
    {"{\"messages\":[" S "," U "," A "],\"system\":\"be brief\"}", "[" S "," U "]", A},
    {"{\"instruction\":\"hi\",\"input\":\"\",\"output\":\"yes\",\"system\":\"be "
     "brief\",\"history\":"
     "[[\"hi\",\"no\"]]}",
     "[" S "," U "," B "," U "]", A},
    {"{\"instruction\":\"hi\",\"history\":[],\"output\":\"yes\"}", "[" U "]", A},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"hi\",\"name\":\"Bo\"},{\"from\":"
     "\"gpt\","
     "\"value\":\"yes\"},{\"from\":\"tool\",\"value\":\"noon\"},{\"from\":\"gpt\",\"value\":"
     "\"no\"}"
     "]}",
     "[{\"role\":\"user\",\"content\":\"hi\",\"name\":\"Bo\"}," A
     ",{\"role\":\"tool\",\"content\":\"noon\"}]",
     B},
};

/* Messages are kept whole, and what stands beside them. */
static void test_whole(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof WHOLE / sizeof *WHOLE; i++) {
        sp_dataset *data = NULL;
        spar_error err;
        write_rows(WHOLE[i][0]);
        if (sp_dataset_load(&data, path, &err) != SPAR_OK) {
            fail_msg("%s: %s", WHOLE[i][0], err.message);
        }
        json_t *prompt = json_loads(WHOLE[i][1], 0, NULL),
               *response = json_loads(WHOLE[i][2], 0, NULL);
        if (!json_equal(data->rows[0].prompt, prompt) ||
            !json_equal(data->rows[0].response, response)) {
            fail_msg("%s: found %s, %s", WHOLE[i][0], json_dumps(data->rows[0].prompt, 0),
                     json_dumps(data->rows[0].response, 0));
        }
        json_decref(prompt);
        json_decref(response);
        sp_dataset_free(data);
    }
}

/* Both forms of a file give the same rows. */
static void test_rows(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n\n{\"prompt\":\"c\",\"completion\":\"d\"}\n",
        "[{\"prompt\":\"a\",\"completion\":\"b\"},\n\n{\"prompt\":\"c\",\"completion\":\"d\"}]"};
    for (int i = 0; i < 2; i++) {
        sp_dataset *data = NULL;
        write_rows(texts[i]);
        assert_int_equal(sp_dataset_load(&data, path, NULL), SPAR_OK);
        assert_int_equal(data->n, 2);
        assert_string_equal(sp_message_text(data->rows[1].response), "d");
        expect_where(&data->rows[1], 3);
        sp_dataset_free(data);
    }
}

static bool skip_all(void *context, const spar_error *err) {
    (void)context, (void)err;
    return true;
}

/* Where every row is left out, the first reason is said. */
static void test_none_left(void **state) {
    (void)state;
    sp_dataset *data = NULL;
    spar_error err;
    write_rows("{\"a\":1}\n{\"b\":1}");
    assert_int_equal(sp_dataset_load_rows(&data, path, 0, skip_all, NULL, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "found none that can be used; the first: "));
    assert_non_null(strstr(err.message, "rows:1: row: expected messages, "));
}

/* A model of text would learn the marks of images alone. */
static void test_media(void **state) {
    (void)state;
    sp_dataset *data = NULL;
    spar_error err;
    write_rows("{\"messages\":[" U "," A "],\"images\":[\"a.png\"]}");
    assert_int_equal(sp_dataset_load(&data, path, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "rows:1: images: expected none, as models read text"));
}

/* Labelled rows keep their labels, and each must have one. */
static void test_labels(void **state) {
    (void)state;
    sp_dataset *data = NULL;
    spar_error err;
    write_rows("{\"messages\":[" U "," A "],\"label\":true}\n{\"messages\":[" U "," B
               "],\"label\":false}\n");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_LABELS, NULL, NULL, &err),
                     SPAR_OK);
    assert_int_equal(data->n, 2);
    assert_false(data->rows[0].bad);
    assert_true(data->rows[1].bad);
    sp_dataset_free(data);
    data = NULL;
    write_rows(SHARED("{\"from\":\"gpt\",\"value\":\"a\"}") ",\"kto_tag\":false}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_LABELS, NULL, NULL, &err),
                     SPAR_OK);
    assert_true(data->rows[0].bad);
    sp_dataset_free(data);
    data = NULL;
    write_rows("{\"prompt\":\"a\",\"completion\":\"b\",\"label\":1}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_LABELS, NULL, NULL, &err),
                     SPAR_FORMAT);
    assert_non_null(strstr(err.message, "rows:1: label: expected true or false, found integer"));
}

/* A good row of the layout first, then the bad one: line 2. */
static void refuse(const char *good, const char *bad, const char *part) {
    char text[2048];
    sp_dataset *data = NULL;
    spar_error err;
    snprintf(text, sizeof text, "%s%s%s\n", good, good[0] ? "\n" : "", bad);
    write_rows(text);
    assert_int_equal(sp_dataset_load(&data, path, &err), SPAR_FORMAT);
    assert_null(data);
    if (strstr(err.message, part) == NULL || strncmp(err.message, path, strlen(path)) != 0) {
        fail_msg("expected \"%s\" in: %s", part, err.message);
    }
}

static void test_refused(void **state) {
    (void)state;
    const char *m = "{\"messages\":[" U "," A "]}", *p = "{\"prompt\":\"a\",\"completion\":\"b\"}";
    const char *a = "{\"instruction\":\"a\",\"output\":\"b\"}";
    const char *d = "{\"prompt\":\"hi\",\"chosen\":\"b\",\"rejected\":\"c\"}";
    const char *r = "{\"real\":[" U "," A "],\"generated\":[" U "," B "]}";
    const char *t = "{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: a"
                    "\\n\\nAssistant: c\"}";
    refuse(t, "{\"chosen\":\"a\",\"rejected\":\"b\"}", "rows:2: chosen: expected a transcript");
    refuse(t, "{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":3}",
           "rows:2: rejected: expected a transcript, found integer");
    refuse(
        t,
        "{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: other\\n\\n"
        "Assistant: c\"}",
        "rows:2: rejected: expected the messages of the prompt before the response, found other");
    refuse(t, "{\"chosen\":\"\\n\\nHuman: a\",\"rejected\":\"\\n\\nHuman: a\"}",
           "rows:2: chosen: expected a last message of the assistant, found user");
    refuse(t, "{\"chosen\":\"\\n\\nAssistant: a\",\"rejected\":\"\\n\\nAssistant: b\"}",
           "rows:2: chosen: expected the prompt's messages before the response, found none");
    refuse("", "", "expected rows, found an empty file");
    refuse("", "{\"text\":\"a\"}", "rows:1: row: expected messages, ");
    refuse("", "{\"text\":\"a\"}", "found \"text\"");
    refuse("", "{}", "found no members");
    refuse("", "{\"prompt\":\"a\",\"completion\":null}", "found \"prompt\", \"completion\" (null)");
    refuse("", "[{\"n\":1},", "rows:1: row: ");
    refuse(m, p, "rows:2: messages: expected a list of messages, found nothing");
    refuse(m, "{\"messages\":\"a\"}",
           "rows:2: messages: expected a list of messages, found string");
    refuse(m, "{\"messages\":[]}", "rows:2: messages: expected at least one message");
    refuse(m, "{\"messages\":[3]}",
           "rows:2: messages[0]: expected a message object, found integer");
    refuse(m, "{\"messages\":[" U "]}", "expected a last message of the assistant, found user");
    refuse(m, "{\"messages\":[" A "]}", "expected a prompt before the response");
    refuse(m, "{\"messages\":[{\"content\":\"a\"}]}", "a \"role\", found nothing");
    refuse(m, "{\"messages\":[{\"role\":\"user\"}]}", "\"content\" of a message to be a string");
    refuse(m, "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "found nothing");
    refuse(m, "{\"messages\":[{\"role\":\"user\",\"content\":null,\"tool_calls\":[]}]}",
           "\"content\" of a message to be a string or a list of parts, found nothing");
    refuse(m, "{\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}", "found a list of others");
    refuse(m, "{\"messages\":[{\"role\":\"user\",\"content\":{}}]}", "found object");
    refuse(m, "{\"messages\":[" U "," A "],\"tools\":[3]}",
           "rows:2: tools: expected a list of objects, found a list of others");
    refuse(m, "{\"messages\":[" U "," A "],\"tools\":\"[{\"}", "rows:2: tools: ");
    refuse(m, "{\"messages\":[" U "," A "],\"documents\":\"{}\"}",
           "rows:2: documents: expected a list of objects, found object");
    refuse(m, "{\"messages\":[" U "," A "],\"chat_template_kwargs\":[" U "]}",
           "rows:2: chat_template_kwargs: expected an object, found array");
    refuse(m, "{\"messages\":[{\"from\":\"robot\",\"value\":\"a\"}]}",
           "function_call or observation, found robot");
    refuse(m, "{\"messages\":[{\"from\":\"gpt\",\"value\":2}]}", "\"value\" of a message");
    const char *c = SHARED("{\"from\":\"gpt\",\"value\":\"a\"}") "}";
    refuse(
        c, SHARED("{\"from\":\"function\",\"value\":\"a\"}") "}",
        "rows:2: conversations[1]: expected \"from\" of human, gpt, system, tool, function_call or "
        "observation, found function");
    refuse(c, SHARED("{\"from\":\"function_call\",\"value\":\"now()\"}") "}",
           "rows:2: conversations[1]: expected a call as JSON of \"name\" and \"arguments\", found "
           "another text");
    refuse(c, SHARED("{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\"}\"}") "}",
           "\"arguments\", found other JSON");
    refuse(c, SHARED("{\"from\":\"function_call\",\"value\":\"[]\"}") "}", "found an empty list");
    refuse(m, "{\"messages\":[" S "," U "," A "],\"system\":\"other\"}",
           "rows:2: system: expected the system message of the conversation, found another");
    refuse(m, "{\"messages\":[" U "," A "],\"system\":3}",
           "rows:2: system: expected a string or nothing, found integer");
    refuse(a, "{\"instruction\":\"a\",\"output\":\"b\",\"history\":[[\"a\"]]}",
           "rows:2: history: expected a list of pairs of texts, found another list");
    refuse(a, "{\"instruction\":\"a\",\"output\":\"b\",\"history\":{}}",
           "rows:2: history: expected a list of pairs of texts, found object");
    refuse(p, "{\"prompt\":\"a\"}", "rows:2: completion: expected a string or a list of messages");
    refuse(p, "{\"prompt\":2,\"completion\":\"b\"}", "rows:2: prompt: expected a string or");
    refuse(p, "{\"prompt\":[],\"completion\":\"b\"}", "rows:2: prompt: expected at least one");
    refuse(p, "{\"prompt\":\"\",\"completion\":\"b\"}",
           "rows:2: prompt: expected a prompt, found an ");
    refuse(a, "{\"instruction\":\"\",\"output\":\"b\"}", "rows:2: instruction: expected a prompt");
    refuse("", "{\"prompt\":\"a\",\"responses\":[\"b\"]}", "rows:1: row: expected messages, ");
    refuse(a, "{\"instruction\":\"a\"}",
           "rows:2: output: expected a string or a list of messages, found nothing");
    refuse(a, "{\"output\":\"a\"}", "rows:2: instruction: expected a string, found nothing");
    refuse(a, "{\"instruction\":\"a\",\"input\":1,\"output\":\"b\"}", "rows:2: input: expected a");
    refuse(d, "{\"prompt\":\"a\",\"chosen\":\"b\"}", "rows:2: rejected: expected a string or");
    refuse(d, "{\"prompt\":\"x\",\"chosen\":[" U "," A "],\"rejected\":\"b\"}",
           "rows:2: chosen: expected the messages of the prompt before the response");
    refuse(r, "{\"real\":[" A "],\"generated\":[" B "]}", "rows:2: real: expected the prompt's");
    refuse(r, "{\"real\":[" U "," A "],\"generated\":[" U "]}",
           "rows:2: generated: expected a last");
    refuse(r, "{\"real\":[" U "," A "],\"generated\":[" S "," B "]}", "rows:2: generated: ");
    refuse(
        r, "{\"real\":[" S "," U "," A "],\"generated\":[" S "," PARTS "," B "]}",
        "rows:2: generated: expected the messages of the prompt before the response, found other");
    refuse(p, "{\"prompt\":[" U "],\"completion\":[" CALL "," TOLD "]}",
           "rows:2: completion: expected a last message of the assistant, found tool");
    refuse(p, "{\"prompt\":[" U "],\"completion\":[" U "," U "," A "]}",
           "rows:2: completion: expected the messages of the prompt before the response, found ");
    refuse(p, "{\"prompt\":[" U "],\"completion\":[]}",
           "rows:2: completion: expected at least one");
    refuse(d, "{\"prompt\":", "rows:2: ");
    refuse("{\"prompt\":\"a\",\"completion\":\"b\",\"label\":true}",
           "{\"prompt\":\"a\",\"completion\":\"c\",\"label\":false}",
           "rows:2: label: expected true or nothing, of a response to learn, found false");
}

/* Rows of any number of responses, and a third response, only where they are asked for. */
static void test_wanted(void **state) {
    (void)state;
    sp_dataset *data = NULL;
    spar_error err;
    write_rows("{\"prompt\":\"a\",\"responses\":[\"b\",\"c\"],\"rewards\":[1,2]}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_GROUPS, NULL, NULL, &err),
                     SPAR_OK);
    assert_string_equal(data->name, "responses");
    assert_null(data->rows[0].response);
    assert_int_equal(json_array_size(json_object_get(data->rows[0].row, "rewards")), 2);
    assert_int_equal(json_array_size(data->rows[0].prompt), 1);
    sp_dataset_free(data);
    data = NULL;
    write_rows("{\"text\":\"a\"}\n{\"text\":2}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_TEXT, NULL, NULL, &err),
                     SPAR_FORMAT);
    assert_non_null(strstr(err.message, "rows:2: text: expected a string, found integer"));
    write_rows("{\"text\":\"a\"}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_TEXT, NULL, NULL, &err), SPAR_OK);
    assert_string_equal(json_string_value(data->rows[0].text), "a");
    assert_null(data->rows[0].prompt);
    sp_dataset_free(data);
    data = NULL;
    write_rows("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"base\":[" A "]}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_BASE, NULL, NULL, &err), SPAR_OK);
    assert_non_null(data->rows[0].base);
    assert_null(data->rows[0].row);
    sp_dataset_free(data);
    data = NULL;
    assert_int_equal(sp_dataset_load_rows(&data, path, 0, NULL, NULL, &err), SPAR_OK);
    assert_null(data->rows[0].base);
    sp_dataset_free(data);
    data = NULL;
    write_rows("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"base\":1}");
    assert_int_equal(sp_dataset_load_rows(&data, path, SP_DATASET_BASE, NULL, NULL, &err),
                     SPAR_FORMAT);
    assert_non_null(strstr(err.message, "rows:1: base: expected a string or a list of messages"));
}

static void test_no_memory(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"prompt\":[" S "," U "],\"chosen\":[" A "],\"rejected\":[" B "]}",
        "{\"chosen\":[" U "," CALL "," TOLD "," A "],\"rejected\":[" U "," B "]}",
        SHARED("{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{"
               "}}\"}") ",\"system\":\"be brief\",\"tools\":[{\"name\":\"f\"}]}",
        "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\",\"history\":[[\"d\",\"e\"]]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        spar_status status = SPAR_NO_MEMORY;
        sp_dataset *data = NULL;
        write_rows(texts[i]);
        for (long k = 1; status != SPAR_OK; k++) {
            assert_true(k < 1000);
            sp_mem_fail_at(k);
            status = sp_dataset_load(&data, path, NULL);
            sp_mem_fail_at(0);
            assert_true(status == SPAR_OK || (status == SPAR_NO_MEMORY && data == NULL));
        }
        sp_dataset_free(data);
    }
}

static void expect_file(const char *name, size_t n, const char *layout, const char *start) {
    const char *file = test_shared(name);
    sp_dataset *data = NULL;
    spar_error err;
    if (file == NULL) {
        printf("not here, left out: %s\n", name);
        return;
    }
    if (sp_dataset_load(&data, file, &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(data->name, layout);
    assert_int_equal(data->n, n);
    assert_memory_equal(sp_message_text(data->rows[0].response), start, strlen(start));
    sp_dataset_free(data);
}

static void test_public_data(void **state) {
    (void)state;
    expect_file("data/prefs/llama-factory/alpaca_en_demo.json", 999, "instruction",
                "Making crepes is a");
    expect_file("data/prefs/llama-factory/identity.json", 91, "instruction", "Hello! I am {{name");
    expect_file("data/prefs/llama-factory/dpo_en_demo.json", 300, "preference",
                "That sounds like a");
    expect_file("data/prefs/rasbt-dpo/instruction-data-with-preference.json", 1100, "preference",
                "The spelling of th");
    expect_file("data/prefs/rasbt-dpo/instruction-data.json", 1100, "instruction",
                "The spelling of th");
    const char *judged = test_shared("data/prefs/llama-factory/kto_en_demo.json");
    if (judged != NULL) { /* half of its responses are bad ones */
        sp_dataset *data = NULL;
        spar_error err;
        assert_int_equal(sp_dataset_load(&data, judged, &err), SPAR_FORMAT);
        assert_non_null(strstr(err.message, "label: expected true"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),   cmocka_unit_test(test_whole),
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_labels),
        cmocka_unit_test(test_media),     cmocka_unit_test(test_none_left),
        cmocka_unit_test(test_wanted),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_public_data),
    };
    test_temp_dir(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(folder, NULL);
    return failed;
}
