/* Matrix games: the preference of one response over another, and the policies that play them.
 *
 * A payoff is a row-major [m][n] matrix of what the row player gets for (row i, column j); the
 * column player gets its negative. A preference matrix is square, P[i][j] = P(i preferred to j),
 * P[i][j] + P[j][i] = 1: its optimal strategy is the von Neumann winner and its value 1/2.
 */
#ifndef SP_TRAIN_GAME_H
#define SP_TRAIN_GAME_H

#include <stdint.h>

#include "spar/status.h"

/* Optimal strategies of both players (rows [m], columns [n], out) and the value of the game, by the
 * simplex method on the column player's linear program, with Bland's rule, which does not cycle
 * (Bland 1977). Payoffs must be finite. NO_MEMORY; LIMIT where it does not end. */
spar_status sp_game_solve(const double *payoff, int m, int n, double *rows, double *columns,
                          double *value, spar_error *err);

/* The duality gap of (rows, columns): what the two could win by best answers, 0 exactly at an
 * equilibrium. */
double sp_game_gap(const double *payoff, int m, int n, const double *rows, const double *columns);

/* wins[i] = P(i preferred to policy), [n] each. */
void sp_game_wins(const double *preference, int n, const double *policy, double *wins);

/* The win rate of each of n responses among themselves, itself as P[i][i] = 1/2: rates[i] = mean_j
 * P[i][j]. *best and *worst: the first of the highest and of the lowest. n >= 1. */
void sp_game_win_rates(const double *preference, int n, double *rates, int *best, int *worst);

/* One exact iteration of SPPO (arXiv 2405.00675) on log-probs:
 * policy proportional to policy * exp(eta * P(y preferred to policy)). */
void sp_game_sppo(const double *preference, int n, double eta, double *logp);

/* One exact iteration of INPO (arXiv 2407.00617), which is magnetic mirror descent (arXiv
 * 2206.05825): policy proportional to reference^(tau/eta) policy^(1-tau/eta)
 * exp(P(y preferred to policy) / eta). */
void sp_game_inpo(const double *preference, int n, double eta, double tau, const double *reference,
                  double *logp);

/* How far a policy is from the Nash policy of the game with a KL term of weight tau to the
 * reference: the spread of log policy - log reference - P(y preferred to policy) / tau. */
double sp_game_regularized_residual(const double *preference, int n, double tau,
                                    const double *reference, const double *logp);

/* A random preference matrix; its entries differ from 1/2 by up to 1/2 either way. */
void sp_game_random(uint64_t seed, int n, double *preference);

#endif
