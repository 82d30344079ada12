#include "play/iteration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "play/candidate.h"
#include "play/divergence.h"
#include "play/lessons.h"
#include "play/pairs.h"
#include "play/stage_train.h"
#include "play/verified.h"
#include "play/work.h"
#include "train/game.h"

/* What an iteration sampled, and what that gave to learn from. */
typedef struct turn {
    sp_samples samples;
    sp_judged judged;
    sp_groups groups;
} turn;

static void release_turn(turn *t) {
    sp_samples_release(&t->samples);
    sp_judged_release(&t->judged);
    sp_groups_release(&t->groups);
}

typedef struct loop {
    sp_run *run;
    const sp_arm *arm;
    sp_best *best;
    sp_best start; /* the arm's: the anchor */
    turn *turns;   /* owned, [iterations]; of those done the first and the last are kept */
    sp_roster roster;
    /* of the iteration at hand */
    int64_t iteration, stage;
    char path[256];
    const sp_problems *problems;
    sp_problems fresh;
} loop;

/* ---- lessons ---- */

/* now: sampled by the opponent of this iteration, whose log-probs were kept. */
static sp_reply reply_of(const loop *l, const sp_samples *samples, size_t problem,
                         const sp_member *member, bool now) {
    if (member->sample < 0) {
        const sp_problem *p = &l->problems->items[problem];
        return (sp_reply){.ids = p->reference_ids,
                          .n = p->n_reference,
                          .win_rate = member->win_rate,
                          .reward = member->reward};
    }
    const sp_play_sample *s = &samples->items[member->sample];
    return (sp_reply){.ids = s->ids,
                      .n = s->n,
                      .win_rate = member->win_rate,
                      .reward = member->reward,
                      .kept = now && !s->older ? s->logps : NULL};
}

/* Whether examples take a response of the anchor's beside the pair: in the first iteration only
 * where the objective cannot do without. */
static bool takes_third(const loop *l) {
    size_t fewest, most;
    sp_objective_responses(&l->arm->objective, &fewest, &most);
    return most == 3 && (fewest == 3 || l->iteration > 0);
}

static void add_group(const loop *l, const turn *t, const sp_group *g, bool now,
                      sp_lessons *lessons) {
    const sp_problem *p = &l->problems->items[g->problem];
    sp_lessons_add(lessons, p->prompt_ids, p->n_prompt);
    for (size_t i = 0; i < g->n; i++) {
        const sp_reply reply =
            reply_of(l, &t->samples, g->problem, &t->groups.members[g->first + i], now);
        sp_lessons_reply(lessons, &reply);
    }
    if (takes_third(l)) { /* the anchor sampled the first iteration's responses */
        const sp_samples *first = &l->turns[0].samples;
        const sp_member member = {.sample = (int64_t)(g->problem * first->k)};
        const sp_reply reply = reply_of(l, first, g->problem, &member, l->iteration == 0);
        sp_lessons_reply(lessons, &reply);
    }
}

/* This iteration's groups and, as SPIN has it from the second iteration on, a share of the pairs of
 * the iteration before (taken at random). Log-probs kept with the older samples are another
 * opponent's. */
static spar_status gather(const loop *l, sp_lessons *out, spar_error *err) {
    spar_status status = SPAR_OK;
    static const turn none;
    const sp_arm *arm = l->arm;
    const turn *now = &l->turns[l->iteration];
    const bool mixes = l->iteration > 0 && arm->pairing == SP_PAIR_REAL && !arm->fresh &&
                       arm->objective.kind != SP_OBJECTIVE_SFT;
    const turn *before = mixes ? now - 1 : &none;
    const size_t old = (size_t)(arm->mix_previous * (double)before->groups.n);
    const size_t room = now->groups.n + old;
    uint32_t *order = NULL;
    void *memory;
    /* as many again: for KTO's responses to other prompts, or for the anchor's */
    SPAR_TRY(
        sp_lessons_init(out, room, now->groups.n_members + before->groups.n_members + room, err));
    SPAR_TRY(sp_mem_calloc(&memory, before->groups.n, sizeof *order, err));
    order = memory;
    for (size_t i = 0; i < now->groups.n; i++) {
        add_group(l, now, &now->groups.items[i], true, out);
    }
    sp_rng_shuffle(l->run->seed, sp_rng_stream((uint64_t)l->stage, 7, 0, 0), order,
                   (uint32_t)before->groups.n);
    for (size_t i = 0; i < old; i++) {
        add_group(l, before, &before->groups.items[order[i]], false, out);
    }
    if (arm->objective.kind == SP_OBJECTIVE_LABELLED && out->n > 0) {
        SPAR_TRY(sp_lessons_mismatch(out, arm->max_tokens, err));
    }
done:
    free(order);
    return status;
}

/* ---- log-probs of opponent and anchor ---- */

/* The opponent's log-probs: by the trainer's own pass, or those kept from sampling where all
 * responses have them. How far the two differ is measured either way. */
static spar_status score_opponent(const loop *l, sp_trainer *t, sp_lessons *lessons,
                                  spar_error *err) {
    enum { FEW = 32 }; /* enough to measure the difference */
    spar_status status = SPAR_OK;
    sp_logp_gap gap;
    const bool exact = l->arm->exact_reference || !sp_lessons_all_kept(lessons);
    if (exact) {
        SPAR_TRY(sp_lessons_score(lessons, t, SP_LESSONS_OPPONENT, &l->arm->objective, &gap, NULL,
                                  NULL, err));
    } else {
        SPAR_TRY(sp_trainer_score(t, lessons->examples, lessons->n < FEW ? lessons->n : FEW, NULL,
                                  NULL, &gap, err));
        sp_lessons_take_kept(lessons);
    }
    const double mean = gap.n ? gap.sum / (double)gap.n : 0;
    SPAR_TRY(sp_run_put_value(l->run, l->stage, "logp_gap_mean", mean, err));
    SPAR_TRY(sp_run_put_value(l->run, l->stage, "logp_gap_max", gap.max, err));
    sp_run_log(l->run,
               "log-probs of sampler and trainer differ by %.2e on average, %.2e at most, over "
               "%lld tokens; the opponent is scored by the %s",
               mean, gap.max, (long long)gap.n, exact ? "trainer's pass" : "sampler's log-probs");
done:
    return status;
}

static bool reads_anchor(const loop *l) {
    return (sp_objective_reads(&l->arm->objective) & SP_READS_ANCHOR) != 0;
}

static bool anchor_is_opponent(const loop *l) {
    return strcmp(l->start.path, l->best->path) == 0;
}

/* The anchor is asked first, and gone before the opponent trains. */
static spar_status score_anchor(loop *l, sp_lessons *lessons, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_trainer *trainer = NULL;
    sp_logp_gap gap;
    sp_best anchor = l->start;
    anchor.loaded = false;
    l->best->loaded = false;
    SPAR_TRY(sp_run_load_best(l->run, &anchor, err));
    SPAR_TRY(sp_stage_trainer(l->run, l->arm, l->arm->optimizer, &trainer, err));
    SPAR_TRY(sp_lessons_score(lessons, trainer, SP_LESSONS_ANCHOR, &l->arm->objective, &gap, NULL,
                              NULL, err));
    sp_trainer_free(trainer);
    trainer = NULL;
    SPAR_TRY(sp_run_load_best(l->run, l->best, err));
done:
    sp_trainer_free(trainer);
    return status;
}

/* Win rates against the mixture of opponent and anchor, of which the samples are. */
static spar_status against_mixture(const loop *l, sp_lessons *lessons, spar_error *err) {
    spar_status status = SPAR_OK;
    const turn *now = &l->turns[l->iteration];
    const size_t k = now->samples.k;
    const double m = l->arm->objective.params[SP_PG_LAST];
    size_t *order = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, k, sizeof *order, err));
    order = memory;
    for (size_t i = 0; i < now->groups.n; i++) {
        const sp_member *members = now->groups.members + now->groups.items[i].first;
        const size_t first = (size_t)members[0].sample / k * k;
        for (size_t j = 0; j < k; j++) {
            order[j] = (size_t)members[j].sample - first;
        }
        SPAR_TRY(sp_lessons_against_mixture(&lessons->examples[i], now->judged.p + first * k, order,
                                            m, err));
    }
done:
    free(order);
    return status;
}

/* Everything that the objective reads of the lessons. *trainer: out, on the opponent. */
static spar_status prepare_lessons(loop *l, sp_lessons *lessons, sp_trainer **trainer,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_objective *o = &l->arm->objective;
    if (o->kind == SP_OBJECTIVE_SFT) { /* likelihood alone */
        return sp_stage_trainer(l->run, l->arm, l->arm->optimizer, trainer, err);
    }
    if (reads_anchor(l) && !anchor_is_opponent(l)) {
        SPAR_TRY(score_anchor(l, lessons, err));
    }
    SPAR_TRY(sp_stage_trainer(l->run, l->arm, l->arm->optimizer, trainer, err));
    SPAR_TRY(score_opponent(l, *trainer, lessons, err));
    if (reads_anchor(l) && anchor_is_opponent(l)) {
        sp_lessons_same_anchor(lessons);
    }
    if (o->kind == SP_OBJECTIVE_TOKENS && o->gradient->advantage == SP_ADVANTAGE_WIN_RATE) {
        SPAR_TRY(against_mixture(l, lessons, err));
    }
done:
    return status;
}

/* ---- one iteration ---- */

static spar_status train(loop *l, int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_lessons lessons = {0};
    sp_trainer *trainer = NULL;
    const sp_arm *arm = l->arm;
    const turn *now = &l->turns[l->iteration];
    *sequences = 0;
    SPAR_TRY(gather(l, &lessons, err));
    sp_run_log(l->run, "%s: %zu samples gave %zu to learn from; training on %zu", arm->name,
               now->samples.n, now->groups.n, lessons.n);
    const size_t largest = sp_lessons_largest(&lessons, &arm->objective);
    if ((int64_t)largest > arm->max_tokens) {
        sp_run_log(l->run,
                   "%s: a prompt with what is computed beside it takes %zu rows, more than "
                   "max_tokens: %lld, "
                   "and as much more memory",
                   arm->name, largest, (long long)arm->max_tokens);
    }
    if (lessons.n > 0) {
        const sp_curriculum w = {.examples = lessons.examples,
                                 .n = lessons.n,
                                 .epochs = arm->epochs,
                                 .objective = &arm->objective,
                                 .lr = arm->lr};
        SPAR_TRY(sp_run_load_best(l->run, l->best, err));
        SPAR_TRY(prepare_lessons(l, &lessons, &trainer, err));
        SPAR_TRY(sp_stage_train(l->run, l->stage, arm, trainer, &w, sequences, err));
    }
    l->best->loaded = false;
done:
    sp_trainer_free(trainer);
    sp_lessons_release(&lessons);
    return status;
}

/* Train a candidate, or load back the one that a stage killed behind its training has. */
static spar_status make_candidate(loop *l, bool trained, int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    double stored;
    if (trained) {
        SPAR_TRY(sp_run_get_value(l->run, l->stage, "sequences", 0, &stored, err));
        *sequences = (int64_t)stored;
        l->best->loaded = false;
        SPAR_TRY(sp_candidate_load(l->run, l->path, err));
    } else {
        SPAR_TRY(sp_work_begin(l->run, l->stage, "train", err));
        SPAR_TRY(sp_work_end(l->run, train(l, sequences, err), err));
        SPAR_TRY(sp_candidate_save(l->run, l->stage, l->path, *sequences, err));
    }
done:
    return status;
}

/* Who beats whom: by the recipe's judge, else by the checkers of task families. */
static spar_status judge(const loop *l, turn *now, spar_error *err) {
    spar_status status = SPAR_OK;
    if (sp_arm_compares(l->arm) && l->run->recipe.judge.train) {
        SPAR_TRY(sp_judged_make(l->run, l->stage, l->problems, &now->samples, &now->judged, err));
    } else if (l->problems->tasks) {
        SPAR_TRY(sp_verified_make(&now->samples, &now->judged, err));
    }
done:
    return status;
}

/* The samples: by the latest, or by opponents drawn from the roster. */
static spar_status answer(loop *l, bool trained, sp_samples *out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_cast cast = {0};
    const bool draws = sp_roster_keeps(l->arm) && l->roster.n > 1;
    if (draws) {
        SPAR_TRY(sp_roster_cast(l->run, l->stage, l->arm, &l->roster, l->problems, &cast, err));
        l->best->loaded = false;
    } else if (!trained) {
        SPAR_TRY(sp_run_load_best(l->run, l->best, err));
    }
    SPAR_TRY(sp_samples_make(l->run, l->stage, l->problems, (int)l->arm->samples,
                             draws ? &cast : NULL, out, err));
done:
    sp_cast_release(&cast);
    return status;
}

static spar_status sample_turn(loop *l, bool trained, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_arm *arm = l->arm;
    turn *now = &l->turns[l->iteration];
    l->problems = &l->run->sets[SP_SET_TRAIN];
    if (l->iteration == 0 && arm->shares >= 0) {
        int64_t first;
        SPAR_TRY(sp_run_find_stage(l->run, l->run->recipe.arms[arm->shares].name, "iteration", 1,
                                   &first, err));
        SPAR_TRY(sp_samples_share(l->run, first, l->stage, arm->fresh > 0, err));
    }
    if (arm->fresh) {
        SPAR_TRY(sp_run_fresh_problems(l->run, l->stage, arm, l->iteration, &l->fresh, err));
        l->problems = &l->fresh;
    }
    SPAR_TRY(answer(l, trained, &now->samples, err));
    SPAR_TRY(judge(l, now, err));
    SPAR_TRY(sp_groups_make(l->run, l->stage, arm, l->problems, &now->samples, &now->judged,
                            &now->groups, err));
done:
    return status;
}

static spar_status run_iteration(loop *l, bool *kept, int64_t *sequences, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_run *run = l->run;
    const turn *now = &l->turns[l->iteration];
    bool done, trained;
    double stored;
    const sp_best before = *l->best;
    SPAR_TRY(sp_run_stage(run, l->arm->name, "iteration", l->iteration + 1, &l->stage, &done, err));
    sp_candidate_path(l->path, sizeof l->path, l->stage, l->arm->name, l->iteration + 1);
    SPAR_TRY(sp_run_phase_done(run, l->stage, "train", &trained, err));
    SPAR_TRY(sample_turn(l, trained, err));
    if (done) {
        SPAR_TRY(sp_run_get_value(run, l->stage, "sequences", 0, &stored, err));
        *sequences = (int64_t)stored;
        SPAR_TRY(sp_candidate_recall(run, l->stage, l->path, l->best, kept, err));
    } else {
        SPAR_TRY(make_candidate(l, trained, sequences, err));
        SPAR_TRY(sp_divergence_measure(run, l->stage, l->problems, &now->samples, err));
        SPAR_TRY(sp_candidate_gate(run, l->stage, l->arm->name, l->path, *sequences, l->best, kept,
                                   err));
    }
    if (*kept) {
        SPAR_TRY(sp_roster_add(run, &l->roster, l->arm, l->best, &l->start, err));
    }
    if (!sp_roster_keeps(l->arm)) {
        SPAR_TRY(sp_candidate_supersede(run, &before, &l->start, l->best, err));
    }
done:
    sp_problems_release(&l->fresh);
    return status;
}

spar_status sp_iterations_run(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                              int64_t *played, spar_error *err) {
    spar_status status = SPAR_OK;
    loop l = {.run = run, .arm = arm, .best = best, .start = *best};
    int64_t failures = 0;
    void *memory;
    *played = 0;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)arm->iterations, sizeof *l.turns, err));
    l.turns = memory;
    SPAR_TRY(sp_roster_add(run, &l.roster, arm, best, &l.start, err));
    while (l.iteration < arm->iterations && (arm->patience == 0 || failures < arm->patience)) {
        bool kept;
        SPAR_TRY(run_iteration(&l, &kept, &sequences[l.iteration], err));
        failures = kept ? 0 : failures + 1;
        if (l.iteration > 1) {
            release_turn(&l.turns[l.iteration - 1]);
        }
        *played = ++l.iteration;
    }
    SPAR_TRY(sp_roster_dismiss(run, &l.roster, &l.start, best, err));
    if (l.iteration < arm->iterations) {
        SPAR_TRY(sp_run_put_value(run, l.stage, "ended_early", (double)failures, err));
        sp_run_log(run, "%s: ends after %lld of %lld iterations: the last %lld did not help",
                   arm->name, (long long)l.iteration, (long long)arm->iterations,
                   (long long)failures);
    }
done:
    for (int64_t i = 0; l.turns && i < arm->iterations; i++) {
        release_turn(&l.turns[i]);
    }
    free(l.turns);
    sp_roster_release(&l.roster);
    return status;
}
