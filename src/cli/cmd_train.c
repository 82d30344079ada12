/* spar train: one method on a data file. */
#include <stddef.h>

#include "cli.h"
#include "spar/train.h"

typedef struct train_values {
    const char *model, *data, *method, *reference, *out, *log, *write_ids, *template_path;
    const char *optimizer, *schedule;
    double params[SPAR_PARAM_COUNT];
    double lr, warmup, weight_decay, clip, lora_alpha, balance;
    int64_t batch, epochs, steps, max_tokens, max_length, lora_rank, seed, threads;
    int dtype, shuffle, on_bad_row, on_long, weights;
    bool recompute, lora_dora, assistant_only_loss;
    spar_option_list lora_targets;
} train_values;

#define TRAIN(field) offsetof(train_values, field)
static const spar_option train_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, TRAIN(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"data", 'd', SPAR_OPTION_STRING, TRAIN(data), NULL, 0, 0, NULL, "FILE",
     "rows to learn from: JSON Lines, a JSON array, CSV, TSV or Parquet, in any of the usual "
     "layouts; a "
     "folder or a pattern of such files too"},
    {"method", 0, SPAR_OPTION_STRING, TRAIN(method), "dpo", 0, 0, NULL, "NAME",
     "sft, kto on rows with a label, a loss on pairs: dpo, ipo, spin, simpo, sppo and rebel (on "
     "rows with scores), ...; or on responses with rewards: grpo, rloo, ..."},
    {"assistant-only-loss", 0, SPAR_OPTION_FLAG, TRAIN(assistant_only_loss), "false", 0, 0, NULL,
     NULL,
     "sft on conversations: learn every turn of the assistant's, not the last alone; of a "
     "completion of several messages, only those"},
    SPAR_METHOD_ROWS(train_values, params, "clip-low"){
        "reference", 0, SPAR_OPTION_STRING, TRAIN(reference), NULL, 0, 0, NULL, "MODEL",
        "the reference (where the method has an anchor, that), in place of the model as it is "
        "loaded"},
    {"out", 'o', SPAR_OPTION_STRING, TRAIN(out), NULL, 0, 0, NULL, "DIR",
     "folder to make: the trained model, or the adapter with --lora-rank"},
    {"log", 0, SPAR_OPTION_STRING, TRAIN(log), NULL, 0, 0, NULL, "FILE",
     "write a row of JSON a step"},
    {"write-ids", 0, SPAR_OPTION_STRING, TRAIN(write_ids), NULL, 0, 0, NULL, "FILE",
     "write the rows as the token ids that are trained on, which --data reads too; without --out "
     "and --log nothing is trained"},
    {"optimizer", 0, SPAR_OPTION_STRING, TRAIN(optimizer), "adamw", 0, 0, NULL, "NAME",
     "adamw or rmsprop"},
    {"lr", 0, SPAR_OPTION_NUMBER, TRAIN(lr), "1e-6", 0, 1, NULL, "X", "peak learning rate"},
    {"schedule", 0, SPAR_OPTION_STRING, TRAIN(schedule), "linear", 0, 0, NULL, "NAME",
     "constant, linear or cosine"},
    {"warmup", 0, SPAR_OPTION_NUMBER, TRAIN(warmup), "0", 0, 1, NULL, "X",
     "share of the steps in which the learning rate rises"},
    {"weight-decay", 0, SPAR_OPTION_NUMBER, TRAIN(weight_decay), "0", 0, 1, NULL, "X",
     "weight decay"},
    {"clip", 0, SPAR_OPTION_NUMBER, TRAIN(clip), "1", 0, 1e9, NULL, "X",
     "clip the gradient to this norm; 0: never"},
    {"batch", 0, SPAR_OPTION_INT, TRAIN(batch), "16", 1, 1e6, NULL, "N", "rows a step"},
    {"epochs", 0, SPAR_OPTION_INT, TRAIN(epochs), "1", 1, 1e6, NULL, "N", "passes over the data"},
    {"steps", 0, SPAR_OPTION_INT, TRAIN(steps), "0", 0, 1e9, NULL, "N",
     "so many steps, in place of --epochs"},
    {"max-tokens", 0, SPAR_OPTION_INT, TRAIN(max_tokens), "1024", 1, 1 << 24, NULL, "N",
     "rows of a packed micro-batch"},
    {"max-length", 0, SPAR_OPTION_INT, TRAIN(max_length), "0", 0, 1 << 24, NULL, "N",
     "longest prompt and response together, in tokens; 0: the model's context"},
    {"shuffle", 0, SPAR_OPTION_CHOICE, TRAIN(shuffle), "yes", 0, 0, "yes|no", "WHETHER",
     "another order each epoch, or as in the file"},
    {"on-bad-row", 0, SPAR_OPTION_CHOICE, TRAIN(on_bad_row), "stop", 0, 0, "stop|skip", "WHAT",
     "stop at a row that cannot be used, or leave it out and count it"},
    {"on-long", 0, SPAR_OPTION_CHOICE, TRAIN(on_long), "stop", 0, 0, "stop|skip|truncate", "WHAT",
     "a row over --max-length: stop (or as --on-bad-row says), leave it out, or cut its responses"},
    {"recompute", 0, SPAR_OPTION_FLAG, TRAIN(recompute), "false", 0, 0, NULL, NULL,
     "make activations again in the backward: less memory, a quarter more work"},
    {"balance", 0, SPAR_OPTION_NUMBER, TRAIN(balance), "-1", -1, 1e3, NULL, "X",
     "weight of the load-balancing loss of a mixture of experts; -1: router_aux_loss_coef where "
     "the "
     "model's configuration has output_router_logits, else 0"},
    {"lora-rank", 0, SPAR_OPTION_INT, TRAIN(lora_rank), "0", 0, 4096, NULL, "N",
     "train an adapter of this rank instead of the weights; 0: the weights"},
    {"lora-alpha", 0, SPAR_OPTION_NUMBER, TRAIN(lora_alpha), "16", 1e-6, 1e6, NULL, "X",
     "scale of the adapter, divided by its rank"},
    {"dora", 0, SPAR_OPTION_FLAG, TRAIN(lora_dora), "false", 0, 0, NULL, NULL,
     "with --lora-rank: a magnitude for each output beside the adapter's direction (DoRA)"},
    CLI_LORA_TARGETS_ROW(train_values),
    {"template", 0, SPAR_OPTION_STRING, TRAIN(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template in place of the model's own"},
    {"seed", 's', SPAR_OPTION_INT, TRAIN(seed), "0", 0, 9e15, NULL, "N", "seed"},
    {"dtype", 0, SPAR_OPTION_CHOICE, TRAIN(dtype), "auto", 0, 0, "auto|f32|bf16", "TYPE",
     "type of the matrix products"},
    CLI_WEIGHTS_ROW(train_values),
    {"threads", 'j', SPAR_OPTION_INT, TRAIN(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {0}};

static spar_status run_train(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const train_values *v = values;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "options only", err));
    if (!v->model || !v->data) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s",
                           v->model ? "--data: expected a file, found nothing"
                                    : "-m: expected a model, found nothing"));
    }
    if (!v->out && !v->log && !v->write_ids) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "expected --out DIR, --log FILE or --write-ids FILE, found none"));
    }
    const spar_train_options options = {.model = v->model,
                                        .data = v->data,
                                        .method = v->method,
                                        .reference = v->reference,
                                        .out = v->out,
                                        .log = v->log,
                                        .write_ids = v->write_ids,
                                        .params = v->params,
                                        .optimizer = v->optimizer,
                                        .schedule = v->schedule,
                                        .lr = v->lr,
                                        .warmup_ratio = v->warmup,
                                        .weight_decay = v->weight_decay,
                                        .max_grad_norm = v->clip,
                                        .batch = v->batch,
                                        .epochs = v->epochs,
                                        .steps = v->steps,
                                        .max_tokens = v->max_tokens,
                                        .max_length = v->max_length,
                                        .lora_rank = v->lora_rank,
                                        .lora_alpha = v->lora_alpha,
                                        .lora_dora = v->lora_dora,
                                        .lora_targets = v->lora_targets,
                                        .assistant_only_loss = v->assistant_only_loss,
                                        .seed = (uint64_t)v->seed,
                                        .keep_order = v->shuffle == 1,
                                        .skip_bad = v->on_bad_row == 1,
                                        .on_long = (spar_train_long)v->on_long,
                                        .recompute = v->recompute,
                                        .balance = v->balance,
                                        .dtype = (spar_dtype)v->dtype,
                                        .weights = (spar_weights)v->weights,
                                        .threads = (int)v->threads,
                                        .template_path = v->template_path,
                                        .sink = cli_sink(),
                                        .stop = cli_interrupted};
    cli_catch_interrupt();
    status = spar_train(&options, err);
    cli_sink_finish();
done:
    return status;
}

static train_values the_values;
const cli_command cli_train = {
    .doc = {.name = "train",
            .synopsis =
                "-m MODEL --data FILE [--method NAME] --out DIR | --write-ids FILE [options]",
            .summary = "one method on a data file: sft, dpo, ipo, kto, ...",
            .details =
                "Recognises the layout of the rows, says which it is and shows the first as "
                "the model sees it. Rows may also give {\"prompt_ids\", \"chosen_ids\", "
                "\"rejected_ids\"}, or for kto {\"prompt_ids\", \"completion_ids\", "
                "\"label\"}, for sft with a \"completion_mask\". A completion may be several "
                "messages, all of which are then trained on. sppo reads a win rate and rebel a "
                "reward of each response, as "
                "{\"score_chosen\", \"score_rejected\"}. Policy gradients read {\"prompt\", "
                "\"responses\", \"rewards\"}, sppo and nash_md also {\"prompt\", "
                "\"responses\", \"p\"}, each with ids as {\"prompt_ids\", "
                "\"responses_ids\"}; \"logprobs\" are those of who sampled, in place of the "
                "model's as it is loaded. xpo and t_spin read a third response, \"base\". "
                "The model is written whole at the end.",
            .options = train_options},
    .run = run_train,
    .values = &the_values};
