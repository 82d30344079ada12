/* spar pull: files of the Hugging Face hub, or behind a URL. */
#include <stdlib.h>

#include "cli.h"
#include "spar/hub.h"

typedef struct pull_values {
    const char *revision, *out, *sha256;
    spar_option_list include, exclude;
    int64_t attempts;
    double timeout, patience;
    bool dataset, offline;
} pull_values;

#define PULL(field) offsetof(pull_values, field)
static const spar_option pull_options[] = {
    {"revision", 0, SPAR_OPTION_STRING, PULL(revision), "main", 0, 0, NULL, "NAME",
     "branch, tag or commit"},
    {"include", 0, SPAR_OPTION_LIST, PULL(include), NULL, 0, 0, NULL, "PATTERN",
     "only files that match one of these, as '*.gguf'; a * matches slashes too; without it, all "
     "but "
     "weights in formats that spar does not read"},
    {"exclude", 0, SPAR_OPTION_LIST, PULL(exclude), NULL, 0, 0, NULL, "PATTERN",
     "no file that matches one of these"},
    {"out", 'o', SPAR_OPTION_STRING, PULL(out), NULL, 0, 0, NULL, "DIR",
     "plain files in this folder, instead of links in the hub's cache; of a URL: where its file "
     "goes, else the current folder"},
    {"dataset", 0, SPAR_OPTION_FLAG, PULL(dataset), "false", 0, 0, NULL, NULL,
     "a data set, not a model"},
    {"offline", 0, SPAR_OPTION_FLAG, PULL(offline), "false", 0, 0, NULL, NULL,
     "only what the cache has, with --out copied from there; so does HF_HUB_OFFLINE=1"},
    {"sha256", 0, SPAR_OPTION_STRING, PULL(sha256), NULL, 0, 0, NULL, "HEX",
     "what the file behind a URL must hash to"},
    {"attempts", 0, SPAR_OPTION_INT, PULL(attempts), "6", 1, 1000, NULL, "N",
     "tries without a byte gained before a file is given up"},
    {"timeout", 0, SPAR_OPTION_NUMBER, PULL(timeout), "60", 1, 86400, NULL, "SECONDS",
     "longest that a connection may be silent"},
    {"patience", 0, SPAR_OPTION_NUMBER, PULL(patience), "900", 0, 86400, NULL, "SECONDS",
     "longest that pauses between tries may take together"},
    {0}};

static spar_status run_pull(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const pull_values *v = values;
    char *path = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 1, 1, "a repository or a URL", err));
    cli_catch_interrupt();
    const spar_pull_options options = {.revision = v->revision,
                                       .dataset = v->dataset,
                                       .offline = v->offline,
                                       .include = v->include.items,
                                       .n_include = v->include.n,
                                       .exclude = v->exclude.items,
                                       .n_exclude = v->exclude.n,
                                       .out = v->out,
                                       .sha256 = v->sha256,
                                       .attempts = v->attempts,
                                       .stall = v->timeout,
                                       .patience = v->patience,
                                       .stop = cli_interrupted,
                                       .sink = cli_sink()};
    SPAR_TRY(spar_pull(argv[0], &options, &path, err));
    cli_sink_finish();
    cli_put_text(stdout, path, SIZE_MAX);
    putchar('\n');
done:
    free(path);
    return status;
}

static pull_values the_values;
const cli_command cli_pull = {
    .doc =
        {.name = "pull",
         .synopsis = "ORG/NAME | URL [--revision NAME] [--include PATTERN] [--out DIR]",
         .summary = "fetches a model or a data set of the Hugging Face hub, or a file by URL",
         .details =
             "Prints where the files are. A repository goes into the hub's own cache "
             "(HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub), so that what "
             "other tools have fetched is not fetched again, and -m ORG/NAME or "
             "-m hub:ORG/NAME[/FILE][@REVISION] finds it. A call that was cut off, in whatever "
             "way, is gone on with by the next; each file is checked by its hash before it takes "
             "its name. HF_ENDPOINT names another hub. A token comes from HF_TOKEN, "
             "HUGGING_FACE_HUB_TOKEN or the file of a login (HF_TOKEN_PATH, else HF_HOME/token), "
             "and goes to that hub alone. No other command uses the network for models.",
         .options = pull_options},
    .run = run_pull,
    .values = &the_values};
