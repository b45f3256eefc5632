"""One function a table: results in, a table to read out; `save` writes it as CSV, Markdown and LaTeX."""

from adaswitch_lib.report.tables.form import in_plain_words, markdown, save
from adaswitch_lib.report.tables.lane import lane_comparisons, lane_scores
from adaswitch_lib.report.tables.real import by_dialogue, by_length, by_seed, other_tasks, rates, summaries
from adaswitch_lib.report.tables.scores import benchmark, by_method, held_out_table, lead_table, study_leads, table_1, table_2
from adaswitch_lib.report.tables.switches import behaviour, by_divergence, early_switches, rules, rules_pooled, tenths
from adaswitch_lib.report.tables.texts import against_chance, caught, texts, world

__all__ = [
    "against_chance",
    "behaviour",
    "benchmark",
    "by_dialogue",
    "by_divergence",
    "by_length",
    "by_method",
    "by_seed",
    "caught",
    "early_switches",
    "held_out_table",
    "in_plain_words",
    "lane_comparisons",
    "lane_scores",
    "lead_table",
    "markdown",
    "other_tasks",
    "rates",
    "rules",
    "rules_pooled",
    "save",
    "study_leads",
    "summaries",
    "table_1",
    "table_2",
    "tenths",
    "texts",
    "world",
]
