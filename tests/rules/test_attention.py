from dataclasses import replace

import numpy as np
import pytest

from auscult.core.anatomy import Anatomy
from auscult.rules.attention import AttentionCollapse, AttentionLeak


class TestAttentionCollapse:
    @staticmethod
    def spread(training, *levels):
        for layer, level in enumerate(levels):
            training.sample("attention_entropy", level, f"blocks.{layer}.attention")

    def test_silent_on_healthy_and_at_the_beginning(self, training):
        self.spread(training, 0.9, 0.4, 0.2)
        assert not list(AttentionCollapse().check(training.digest()))
        fading = np.maximum(0.5, 0.999 - 0.002 * np.arange(training.rows))
        self.spread(training, fading, fading, fading)
        for rows in (64, 128, 320):
            assert not list(AttentionCollapse().check(training.digest(rows)))

    def test_zeroed_queries_are_exactly_uniform_everywhere(self, training):
        self.spread(training, 1.0, 1.0, 1.0)
        (finding,) = AttentionCollapse().check(training.digest(128))
        assert (finding.severity, finding.path, finding.step) == ("warning", "blocks.0.attention", 0)
        assert finding.evidence[0].path == "blocks.0.attention" and "exactly" in finding.summary

    def test_nearly_uniform_counts_after_four_blocks(self, training):
        self.spread(training, 0.997, 0.998)
        assert not list(AttentionCollapse().check(training.digest(192)))
        assert [each.severity for each in AttentionCollapse().check(training.digest())] == ["warning"]

    def test_one_averaging_layer_is_info(self, training):
        self.spread(training, 0.999, 0.4)
        (finding,) = AttentionCollapse().check(training.digest())
        assert (finding.severity, finding.path) == ("info", "blocks.0.attention")

    @pytest.mark.parametrize(("level", "severity"), [(2.25, "warning"), (0.5, "info")])
    def test_single_positions_are_an_alarm_where_nothing_is_learned(self, training, level, severity):
        training.columns["loss", ""] = np.linspace(2.3, level, training.rows)
        training.sample_losses()
        self.spread(training, 0.6, np.where(np.arange(training.rows) < 100, 0.5, 0.001))
        (finding,) = AttentionCollapse().check(training.digest())
        assert (finding.severity, finding.path) == (severity, "blocks.1.attention")


class TestAttentionLeak:
    @pytest.mark.parametrize(
        ("share", "ahead", "found"), [(1.0, 0.4, True), (1.0, 0.0, False), (0.1, 0.4, False), (None, 0.4, False)]
    )
    def test_only_where_the_next_input_is_the_target(self, training, share, ahead, found):
        training.sample("attention_ahead", 0.0, "blocks.0.attention")
        training.sample("attention_ahead", ahead, "blocks.1.attention")
        digest = replace(training.digest(), anatomy=Anatomy(0, next_token=share))
        findings = list(AttentionLeak().check(digest))
        assert len(findings) == found
        if found:
            assert (findings[0].path, findings[0].severity, findings[0].step) == ("blocks.1.attention", "warning", 0)
            assert findings[0].evidence[0].value == pytest.approx(ahead)

    def test_critical_when_the_loss_is_too_good(self, training):
        training.columns["loss", ""] = 2.3 * np.exp(-np.arange(training.rows) / 30)
        training.sample_losses()
        training.sample("attention_ahead", 0.4, "attention")
        digest = replace(training.digest(), anatomy=Anatomy(0, next_token=1.0))
        assert [each.severity for each in AttentionLeak().check(digest)] == ["critical"]

    def test_the_fact_survives_the_store(self):
        assert Anatomy.from_dict(Anatomy(0, next_token=0.97).to_dict()).next_token == 0.97
