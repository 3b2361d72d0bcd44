"""The mutations that ``mutations.py`` makes: a guard turned off, and the test that must notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    guard: str
    file: str
    old: str
    new: str
    test: str


R, W, S, G = "upwell/regulator/", "upwell/world/", "upwell/service/", "upwell/goals/"
INVARIANTS, TICKER = "tests/test_invariants.py::", "tests/service/test_ticker_trust.py::"
MUTATIONS = (
    Mutation(
        "cap price: never rises", R + "guards.py",
        "return 1.0 + xp.maximum(near - 0.5, 0.0) / (1.0 - near)", "return 1.0 + 0.0 * near",
        "tests/test_pricing.py::test_near_the_cap_the_reserve_rises_and_only_evidence_makes_it_cheaper",
    ),
    Mutation(
        "bid: does not bound the price", R + "pricing.py",
        "xp.minimum(clearing, bid)", "(clearing + 0.0 * bid)",
        "tests/test_pricing.py::test_no_tick_overspends_or_bills_above_the_bid",
    ),
    Mutation(
        "reserve: bids below it are served", R + "tick.py",
        "xp.where(bid >= reserve, requests.impressions * state.throttle, 0.0)",
        "requests.impressions * state.throttle",
        "tests/test_pricing.py::test_who_bids_below_the_reserve_is_not_served_but_a_chance_is_given_at_the_bid",
    ),
    Mutation(
        "discount: not forced near the cap", R + "pricing.py",
        "xp.where(heated_share >= NEAR_CAP * cap, 1.0, xp.clip(asked, 0.0, 1.0))", "xp.clip(asked, 0.0, 1.0)",
        "tests/test_pricing.py::test_near_the_cap_discounts_are_forced",
    ),
    Mutation(
        "window cap: always room", R + "guards.py",
        "xp.maximum(xp.floor(cap * (impressions + coming)) - heated, 0)", "(0 * impressions + coming)",
        INVARIANTS + "test_the_window_holds_whatever_comes_in_whatever_order",
    ),
    Mutation(
        "window cap: not within a batch", R + "guards.py",
        "xp.clip(left - before, 0, flat)", "flat * (left > 0)",
        INVARIANTS + "test_the_window_holds_whatever_comes_in_whatever_order",
    ),
    Mutation(
        "window cap: not asked by the world", W + "serve.py",
        "slots = guards.within_window(jnp, wanted, left)", "slots = wanted + 0 * left",
        INVARIANTS + "test_every_arm_keeps_the_invariants[greedy]",
    ),
    Mutation(
        "per-slate slots: not counted", R + "slate.py",
        " & (slots > h))[..., None]", ")[..., None]",
        "tests/test_slate.py::test_heated_places_hold_grants_within_slots_and_leases",
    ),
    Mutation(
        "lease: not counted", R + "slate.py",
        "pick = pick & (count <= lease)", "pick = pick & (count >= 0)",
        "tests/test_slate.py::test_heated_places_hold_grants_within_slots_and_leases",
    ),
    Mutation(
        "protection: the new are explored on", R + "guards.py",
        "(day - created_day >= protection_days) & ~in_holdout", "(day >= created_day) & ~in_holdout",
        "tests/test_guards.py::test_new_users_and_the_holdout_are_not_explored_on",
    ),
    Mutation(
        "protection: not asked by the world", W + "serve.py",
        "jnp.where(batch.protected | ~moment.present, 0.0,", "jnp.where(~moment.present, 0.0,",
        INVARIANTS + "test_every_arm_keeps_the_invariants[greedy]",
    ),
    Mutation(
        "holdout: heated", W + "serve.py",
        "moment.present & ~held_out, len(", "moment.present, len(",
        INVARIANTS + "test_every_arm_keeps_the_invariants[greedy]",
    ),
    Mutation(
        "chance: nobody is owed one", R + "guards.py",
        "(heated < chance * scale)", "(heated < 0)",
        INVARIANTS + "test_four_in_five_new_contents_get_their_chance[greedy]",
    ),
    Mutation(
        "chance: not first in the queue", R + "tick.py",
        "xp.where(owed, 2.0 + quality, xp.clip(requests.score, 0.0, 1.0))", "xp.clip(requests.score, 0.0, 1.0)",
        INVARIANTS + "test_chances_come_before_whatever_the_arm_wants",
    ),
    Mutation(
        "chance: not drawn first", R + "match.py", "u + owed", "u + 0 * owed",
        "tests/test_match.py::test_chances_are_drawn_before_all_else",
    ),
    Mutation(
        "chance: matched by fit alone", R + "match.py",
        "suits + at_home * (1.0 + suits.max() - suits.min())", "suits + 0.0 * at_home",
        "tests/test_match.py::test_a_chance_comes_first_where_it_fits_best_though_others_fit_better",
    ),
    Mutation(
        "chance: in slivers", R + "ledger.py",
        "xp.where(whole[order] & (served < queue), 0, served)", "served",
        "tests/test_pricing.py::test_a_pool_that_trickles_makes_whole_chances_and_is_saved_up_for_the_next",
    ),
    Mutation(
        "chance: larger than a full pool", R + "tick.py",
        "xp.minimum(chance, xp.floor(pool_today))", "chance",
        "tests/test_pricing.py::test_a_chance_is_never_larger_than_a_full_pool",
    ),
    Mutation(
        "chance: throttled", R + "tick.py",
        "xp.where(owed, chance, asked)", "xp.where(owed, chance * state.throttle, asked)",
        INVARIANTS + "test_the_throttle_shrinks_grants_but_never_the_chance",
    ),
    Mutation(
        "chance: given up by the arm", R + "tick.py",
        "(requests.give_up & ~owed)", "requests.give_up",
        INVARIANTS + "test_no_arm_gives_up_on_a_chance_that_is_owed",
    ),
    Mutation(
        "chance: priced out", R + "tick.py",
        "xp.where(owed, limit, bid), off)", "bid + 0.0 * limit, off)",
        INVARIANTS + "test_no_bid_prices_new_contents_out_of_their_chance",
    ),
    Mutation(
        "throttle: never engages", R + "guards.py",
        "xp.where(enough & (loss - error > limit), factor * 0.75, factor * 1.1)", "factor * 1.1 + 0.0 * error",
        "tests/test_guards.py::test_throttle_falls_on_a_loss_beyond_the_limit_and_recovers",
    ),
    Mutation(
        "throttle: not asked by the world", W + "serve.py",
        "probability * regulator.throttle", "probability",
        INVARIANTS + "test_exploration_that_hurts_throttles_itself_and_recovers",
    ),
    Mutation(
        "cheat: never proven", R + "guards.py",
        "(clicks >= 10.0) & (upper < 0.35)", "(clicks < 0.0) & (upper < 0.35)",
        "tests/test_guards.py::test_bought_clicks_are_proven_and_honest_ones_are_not",
    ),
    Mutation(
        "cheat: keeps its grant", R + "tick.py",
        "(requests.give_up & ~owed) | barred, state.cheat", "requests.give_up & ~owed, state.cheat",
        INVARIANTS + "test_a_content_proven_a_cheat_while_granted_gives_everything_back",
    ),
    Mutation(
        "trust: the frozen are granted to", R + "tick.py",
        "wanted = xp.where(barred |", "wanted = xp.where(state.cheat |",
        TICKER + "test_a_frozen_content_is_granted_nothing_even_if_it_asks",
    ),
    Mutation(
        "trust: silence is nothing", S + "trust.py",
        "(low > CLEARED) if silent else low >= FROZEN", "low >= FROZEN",
        TICKER + "test_a_silent_judge_freezes_all_but_whom_an_operator_cleared",
    ),
    Mutation(
        "trust: an operator's word does not clear", S + "ticker.py",
        "| (low >= ZEROED)) & (low != trust.CLEARED)", "| (low >= ZEROED)) | (low == trust.CLEARED)",
        TICKER + "test_who_is_judged_to_cheat_loses_its_budget_and_an_operator_gives_it_back",
    ),
    Mutation(
        "trust: budgets come back by themselves", S + "ticker.py",
        "restored = np.where(cleared,", "restored = np.where(low < ZEROED,",
        TICKER + "test_who_is_judged_to_cheat_loses_its_budget_and_an_operator_gives_it_back",
    ),
    Mutation(
        "trust: doubted clicks count", S + "ticker.py",
        "floats[name] - contents.doubted[rows, i]", "floats[name] - 0.0 * contents.doubted[rows, i]",
        TICKER + "test_doubted_clicks_do_not_count",
    ),
    Mutation(
        "trust: doubted users are heated to", S + "recommend.py",
        "(contents.low[held] >= NARROWED)", "(contents.low[held] >= 2.0)",
        "tests/service/test_recommend.py::test_a_doubtful_content_is_heated_to_trusted_users_alone",
    ),
    Mutation(
        "trust: an event told again counts again", "upwell/online/known.py",
        "now and not then for now, then", "now for now, then",
        "tests/online/test_judge.py::test_what_is_counted_by_hand",
    ),
    Mutation(
        "trust: another's event counts", "upwell/online/known.py",
        "if event.user_id != seen.user or event", "if event",
        "tests/online/test_judge.py::test_an_event_that_comes_before_its_slate_counts",
    ),
    Mutation(
        "trust: the erased are kept", "upwell/online/known.py",
        'self.accounts.names[row] = ""', "pass",
        "tests/online/test_judge.py::test_who_is_erased_is_forgotten",
    ),
    Mutation(
        "cheat: keeps its budget", R + "ledger.py",
        "xp.where(forfeit, 0, ledger.budget + back * ledger.price)", "ledger.budget + back * ledger.price",
        INVARIANTS + "test_a_content_proven_a_cheat_while_granted_gives_everything_back",
    ),
    Mutation(
        "ledger: grants what cannot be paid", R + "ledger.py",
        "xp.minimum(xp.maximum(wanted, 0), affordable)", "xp.maximum(wanted, 0 * affordable)",
        "tests/test_ledger.py::test_a_content_cannot_pay_more_than_its_budget",
    ),
    Mutation(
        "ledger: grants twice", R + "ledger.py",
        "xp.where(ledger.outstanding > 0, 0, xp.minimum(xp.maximum(wanted, 0), affordable))",
        "xp.minimum(xp.maximum(wanted, 0), affordable)",
        "tests/test_ledger.py::TestBooks",
    ),
    Mutation(
        "ledger: grants past the pool", R + "ledger.py",
        "served = xp.minimum(queue, left)", "served = xp.minimum(queue, queue + left)",
        "tests/test_ledger.py::test_the_first_in_order_is_served_first_and_the_pool_binds",
    ),
    Mutation(
        "ledger: spends what is not outstanding", R + "ledger.py",
        "xp.minimum(shown.astype(xp.int32), ledger.outstanding)", "shown.astype(xp.int32)",
        "tests/test_ledger.py::TestBooks",
    ),
    Mutation(
        "propensity: no floor", R + "slate.py",
        "mixed = (1.0 - floor) * share + (floor / xp.maximum(left, 1.0)) * eligible", "mixed = share",
        "tests/test_slate.py::test_explored_propensities_never_fall_below_the_floor",
    ),
    Mutation(
        "propensity: of the draw alone", R + "slate.py",
        "xp.where(explored, p * probability, 1.0 - p)", "xp.where(explored, probability, 1.0 - p)",
        INVARIANTS + "test_chances_of_all_picks_add_up_to_one_at_each_explored_place",
    ),
    Mutation(
        "trail: what is late comes last", S + "trail.py",
        "if trail.steps and step.order < trail.steps[-1].order:", "if False:",
        "tests/service/test_trail.py::test_a_click_that_comes_in_after_the_next_slate_by_hand",
    ),
    Mutation(
        "trail: given up too soon", S + "trail.py",
        "steps[max(first - 1, 0)].at_ms > KEPT_MS", "steps[max(first - 1, 0)].at_ms > KEPT_MS // 8",
        "tests/service/test_trail.py::test_any_order_of_arrival_within_the_bound_gives_the_same_records",
    ),
    Mutation(
        "trail: an event before its slate is dropped", S + "apply.py",
        "live.park(event, event.decision_id, entry.ts_ms)", "pass",
        "tests/service/test_trail.py::test_an_event_that_comes_in_before_its_slate_is_kept_until_it_does",
    ),
    Mutation(
        "weights: no smallest share", G + "weights.py",
        "return smallest + np.maximum(values - smallest - threshold, 0.0)", "return values + 0.0 * threshold",
        "tests/goals/test_weights.py::test_no_share_is_under_the_smallest",
    ),
    Mutation(
        "weights: any step at once", G + "weights.py",
        "min(1.0, limits.step / largest)", "min(1.0, 1.0 / largest)",
        "tests/goals/test_weights.py::test_no_share_moves_by_more_than_a_step_and_a_part_of_it_is_smoothed_away",
    ),
    Mutation(
        "weights: infinity is a number", G + "weights.py",
        "if not (np.isfinite(number) and number >= 0.0):", "if number < 0.0:",
        "tests/goals/test_weights.py::test_what_is_no_three_numbers_changes_nothing_and_is_told",
    ),
    Mutation(
        "two keys: one is enough", S + "goals.py",
        "if moves > large + SLACK:", "if moves > 2.0 + large:",
        "tests/service/test_goals.py::test_a_large_move_needs_both_keys",
    ),
    Mutation(
        "two keys: the same one twice", S + "goals.py",
        "if who.key in held.approvals:", "if False:",
        "tests/service/test_goals.py::test_a_large_move_needs_both_keys",
    ),
    Mutation(
        "two keys: another proposal keeps the first one's", S + "goals.py",
        "bounded(proposal), self.now.version, []", "bounded(proposal), self.now.version, held.approvals",
        "tests/service/test_goals.py::test_another_proposal_needs_both_keys_anew",
    ),
    Mutation(
        "two keys: in steps one goes anywhere", S + "goals.py",
        "for one in (self.now.weights, self.base))", "for one in (self.now.weights,))",
        "tests/service/test_goals.py::test_one_key_cannot_go_far_in_steps",
    ),
    Mutation(
        "automatic: unproven too", S + "goals.py",
        "if proposal.meets and not proposal.program and 0.0 < automatic", "if not proposal.program and 0.0 < automatic",
        "tests/service/test_goals.py::test_what_needs_no_operator",
    ),
    Mutation(
        "prompt: data may close its block", G + "question.py",
        'for mark in "<>":', 'for mark in "":',
        "tests/goals/test_injection.py::test_over_a_hundred_injections_stay_within_their_blocks_whatever_carries_them",
    ),
    Mutation(
        "model: spends without end", G + "spend.py",
        "most is None or spent + tokens <= most", "most is None or spent >= 0",
        "tests/goals/test_llm.py::test_tokens_are_reserved_before_and_counted_after",
    ),
    Mutation(
        "goal guard: never rolls back", S + "goal_guard.py",
        "bool(actual.high < claim.low or actual.low > claim.high)", "False",
        "tests/service/test_goal_guard.py::test_a_fall_beyond_the_bound_is_rolled_back_and_told",
    ),
    Mutation(
        "goal guard: each slate a draw of its own", S + "goal_guard.py",
        "max(float(GROUPS / (GROUPS - 1) * (self.moved**2).sum()), self.least)", "self.least",
        "tests/service/test_goal_guard.py::test_a_few_busy_users_are_no_evidence",
    ),
    Mutation(
        "goal guard: few events are certain", S + "goal_guard.py",
        "(self.moved**2).sum()), self.least)", "(self.moved**2).sum()), 1e-9)",
        "tests/service/test_goal_guard.py::test_one_event_is_no_certainty",
    ),
    Mutation(
        "goal guard: the holdout does not count", S + "goal_guard.py",
        "if claim.relative and how.controlled else", "if claim.relative and not how.sum else",
        "tests/service/test_goal_guard.py::test_what_happens_to_the_holdout_too_is_no_breach",
    ),
    Mutation(
        "experiment: an arm over the kill switch", S + "live.py",
        "MODES[min(MODES.index(self.mode), MODES.index(play.mode or self.mode))]", "play.mode or self.mode",
        "tests/service/test_experiments.py::test_the_kill_switch_rules_over_every_arm",
    ),
    Mutation(
        "experiment: whoever is answered late is not exposed", S + "live.py",
        "self._in_order(asked, ids, size, now_ms, why, exposures, play.reach)",
        "self._in_order(asked, ids, size, now_ms, why, ((),) * len(asked), play.reach)",
        "tests/service/test_experiments.py::test_whoever_is_answered_in_the_rankers_order_is_exposed_all_the_same",
    ),
    Mutation(
        "experiment: harm ends nothing", S + "experiment_guard.py",
        'one.decision == "stop"', 'one.decision == "never"',
        "tests/service/test_experiment_guard.py::test_an_arm_that_harms_ends_its_experiment_and_one_that_does_not_goes_on",
    ),
    Mutation(
        "experiment: a click counts for small creators wherever it is", S + "memory.py",
        "(SMALL, at in shown.small)", "(SMALL, bool(shown.small))",
        "tests/service/test_experiment_effects.py::test_who_is_new_and_what_small_creators_made_is_counted_apart",
    ),
    Mutation(
        "experiment: a pair of arms is counted at every slate", S + "memory.py",
        "(one.first or other.first)", "True",
        "tests/service/test_experiment_effects.py::test_experiments_of_two_layers_are_spread_over_each_other",
    ),
    Mutation(
        "experiment: stages are mixed", S + "memory.py",
        'f"arm {experiment} {stage} {arm}"', 'f"arm {experiment} {arm}"',
        "tests/service/test_experiments.py::test_from_a_file_to_its_end_over_http",
    ),
    Mutation(
        "experiment: the holdout is dealt an arm", R + "assignment.py",
        "if absorb(HELD_STATE, user) < self._limit:", "if absorb(HELD_STATE, user) < 0:",
        "tests/service/test_experiments.py::test_arms_are_those_of_the_assignment_and_the_holdout_is_in_none",
    ),
)  # fmt: skip
