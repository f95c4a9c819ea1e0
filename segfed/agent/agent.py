"""The agent of a site: runs what the hospital approved, and lets out only what is allowed."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from segfed import __version__
from segfed.agent.audit import Clock, utc_now
from segfed.agent.budgeted import release_training, train_within_budget
from segfed.agent.compressing import compressed
from segfed.agent.correction import split_correction
from segfed.agent.departures import Departures
from segfed.agent.egress import check_egress, rounded
from segfed.agent.held_model import hold_model, whole_request
from segfed.agent.jobs import (
    store_reply,
    stored_progress,
    stored_reply,
    stored_residue,
    stored_training,
)
from segfed.agent.masking import answer_stage, check_stage_egress, clipped_update, moved
from segfed.agent.personal import read_personal, write_personal
from segfed.agent.policy import check_case_count, check_request
from segfed.engine import (
    LocalTrainer,
    Plan,
    PreparedCase,
    State,
    UNet,
    build_network,
    check_weights,
    from_bytes,
    personal_part,
    prepare,
    read_plan,
    to_bytes,
)
from segfed.engine.device import place
from segfed.engine.prediction import validation_means
from segfed.files import sha256_json
from segfed.privacy import method_of, share_of_noise
from segfed.protocol import STAGES, Manifest, RoundReply, RoundRequest
from segfed.sites import LabelledCase, Site, select_labels


class Agent:
    """One site's part in one study; implements ``segfed.protocol.AgentConnection``.

    Images, labels and the preprocessed cache belong to it and stay warm between rounds. Nothing
    is read before the first request has passed the hospital's policy.
    """

    def __init__(
        self,
        site: Site,
        manifest: Manifest,
        *,
        device: torch.device,
        clock: Clock = utc_now,
        recipient: str | None = None,
    ) -> None:
        """Take the approved study; nothing is read yet.

        Args:
            site: The site, as loaded.
            manifest: The study that the hospital approved; requests for another are refused.
            device: Where to train.
            clock: Dates the lines of the audit log.
            recipient: Who gets the answers, for the audit log; None in a simulation.
        """
        self._site = site
        self._manifest = manifest
        self._device = device
        self._departures = Departures(
            site.folder, clock, recipient or f"study {manifest.study}, simulated on this machine"
        )
        self._trainer: LocalTrainer | None = None

    def answer(self, request: RoundRequest) -> RoundReply:
        """Run a job, or return its stored reply; every answer is in the audit log before it leaves.

        Raises:
            AgentError: With a code and nothing else, whatever went wrong.
        """
        try:
            reply = self._run(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text must not leave
            raise self._departures.failure(request, error) from None
        return self._departures.reply(request, reply)

    def _run(self, request: RoundRequest) -> RoundReply:
        """Policy, store, work, allow-list: in this order."""
        plan = check_request(self._site, self._manifest, request)
        if request.verb in STAGES:
            return self._answer_stage(request)
        request = whole_request(self._site.folder, request)
        if request.verb == "train":
            check_case_count(self._site, len(self._train_labels))
        stored = stored_reply(self._jobs, request)
        work = self._train if request.verb == "train" else self._validate
        reply, residue = (stored, None) if stored else self._compressed(work(request), request)
        check_egress(
            reply,
            plan=plan,
            network=self._network,
            compression=self._manifest.federation.compression,
        )
        if stored is None:
            progress = self._progress_after(request)
            store_reply(self._jobs, request, reply, progress=progress, residue=residue)
        if request.verb == "validate" and request.round < self._manifest.rounds:
            hold_model(self._site.folder, request)
        if request.verb == "train":
            release_training(self._site, self._manifest, request)
        hidden = request.verb == "train" and self._manifest.privacy.secure_aggregation
        return replace(reply, weights=b"") if hidden else reply

    def _answer_stage(self, request: RoundRequest) -> RoundReply:
        """One stage of secure aggregation; its state outlives other labels and code.

        It lies beside the cache, which may be emptied: without it a round could be summed twice.
        """
        folder = self._site.folder / "sessions"
        reply = answer_stage(
            request,
            manifest=self._manifest,
            site=self._site.name,
            state=folder / f"{self._manifest.sha256[:16]}.json",
            training=stored_training(self._jobs, request.round),
        )
        check_stage_egress(reply, request, network=self._network)
        return reply

    def _train(self, request: RoundRequest) -> RoundReply:
        """The weights after this round's local steps."""
        rules = self._manifest.federation
        state, correction = split_correction(
            from_bytes(request.weights), self._network, algorithm=rules.algorithm
        )
        trainer = self._trainer_before(request.round)
        trainer.load_weights({**state, **self._personal(request.round - 1)})
        if self._manifest.privacy.differential_privacy is None:
            reply = self._freely(trainer, correction)
        else:
            labels = self._train_labels
            reply = train_within_budget(
                request, trainer, labels, site=self._site, manifest=self._manifest
            )
        # A slow site that took fewer steps still keeps the study's place in the schedule.
        trainer.steps_done = request.round * self._manifest.steps_per_round
        if rules.personal:
            write_personal(
                self._site.folder,
                self._manifest.sha256,
                round_number=request.round,
                layers=personal_part(trainer.weights(), self._network, rules.personal),
            )
        weights = self._clipped(to_bytes(trainer.weights()), request.weights)
        return replace(reply, weights=weights)

    def _freely(self, trainer: LocalTrainer, correction: State | None) -> RoundReply:
        """Train a round of a study without a privacy budget; the reply lacks its weights."""
        summary = trainer.run(
            self._manifest.steps_per_round,
            seconds=self._manifest.seconds_per_round,
            proximal_mu=self._manifest.federation.proximal_mu,
            correction=correction,
        )
        metrics = {"seconds": summary.seconds, "steps": float(summary.steps)}
        if summary.n_cases >= self._site.settings.policy.minimum_metric_cases:
            metrics["loss"] = summary.loss
        return RoundReply(b"", summary.n_cases, metrics)

    def _personal(self, round_number: int) -> State:
        """The layers that this site has of its own after a round; none where all are shared."""
        if not self._manifest.federation.personal:
            return {}
        return read_personal(self._site.folder, self._manifest.sha256, round_number=round_number)

    def _clipped(self, trained: bytes, base: bytes) -> bytes:
        """The trained weights as the study bounds them; with secure aggregation the update alone.

        The update is kept, and leaves only under masks; with differential privacy of whole sites it
        has its noise by then.
        """
        rules = self._manifest.privacy
        if rules.clip_norm is None:
            return trained
        noise = share_of_noise(rules)
        update = clipped_update(trained, base, clip_norm=rules.clip_norm, noise=noise)
        return update if rules.secure_aggregation else moved(base, update)

    def _compressed(
        self, reply: RoundReply, request: RoundRequest
    ) -> tuple[RoundReply, bytes | None]:
        """A new reply as it leaves, and what compression took from it; the last thing done to it.

        The residue is stored with the reply, and a stored reply is sent as it is: a retry takes
        nothing from an update twice.
        """
        reply, method = rounded(reply), method_of(self._manifest.federation.compression)
        if request.verb != "train" or method is None:
            return reply, None
        residue = stored_residue(self._jobs, before_round=request.round)
        return compressed(reply, request.weights, method=method, residue=residue)

    def _validate(self, request: RoundRequest) -> RoundReply:
        """Dice of each structure that enough validation cases define to hide the single patient.

        Nothing where a whole site is the unit of differential privacy: no noise hides its scores.
        """
        private = self._manifest.privacy.differential_privacy
        if private is not None and private.unit == "site":
            return RoundReply(b"", 0, {})
        cases = self._prepared_validation
        minimum_cases = self._site.settings.policy.minimum_metric_cases
        if len(cases) < minimum_cases:
            return RoundReply(b"", 0, {})
        started = time.perf_counter()
        weights = from_bytes(request.weights)
        check_weights(weights, self._network)
        self._network.load_state_dict({**weights, **self._personal(request.round)})
        scores = validation_means(self._network, self._plan, cases, device=self._device)
        metrics = {
            f"dice_{name}": score.mean
            for name, score in scores.items()
            if score.n_cases >= minimum_cases
        }
        metrics["seconds"] = time.perf_counter() - started
        return RoundReply(b"", len(cases), metrics)

    def _trainer_before(self, round_number: int) -> LocalTrainer:
        """The trainer as it was after the round before, from memory or from disk.

        A site that missed rounds keeps its optimizer's memory and takes the study's place in the
        schedule.
        """
        steps_done = (round_number - 1) * self._manifest.steps_per_round
        trainer = self._trainer
        if trainer is None or trainer.steps_done != steps_done:
            trainer = LocalTrainer(
                self._plan,
                prepare(self._train_labels, self._plan, self._site.folder / "cache"),
                network=self._network,
                seed=self._seed,
                total_steps=self._manifest.rounds * self._manifest.steps_per_round,
                device=self._device,
            )
            progress = stored_progress(self._jobs, before_round=round_number)
            if progress is not None:
                trainer.resume(progress)
            trainer.steps_done = steps_done
            self._trainer = trainer
        return trainer

    def _progress_after(self, request: RoundRequest) -> bytes | None:
        """What a later process needs to go on after a training round; None if there is no next."""
        is_last = request.round == self._manifest.rounds
        if request.verb != "train" or self._trainer is None or is_last:
            return None
        return self._trainer.progress()

    @cached_property
    def _plan(self) -> Plan:
        return read_plan(self._manifest.plan)

    @property
    def _seed(self) -> int:
        """The study's seed, turned so that no two sites draw the same numbers; below 2^32."""
        text = f"{self._manifest.seed}/{self._site.name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])

    @cached_property
    def _network(self) -> UNet:
        # Placed here: weights that validation moves in inference mode could not be trained later.
        return place(build_network(self._plan, seed=self._manifest.seed), self._device)

    @cached_property
    def _train_labels(self) -> tuple[LabelledCase, ...]:
        return select_labels(self._site, split=self._manifest.train_split, arm=self._manifest.arm)

    @cached_property
    def _validation_labels(self) -> tuple[LabelledCase, ...]:
        """Hand-drawn in every arm: arms must differ in their training labels only."""
        return select_labels(self._site, split="validation", arm="manual", required=False)

    @cached_property
    def _prepared_validation(self) -> tuple[PreparedCase, ...]:
        return prepare(self._validation_labels, self._plan, self._site.folder / "cache")

    @cached_property
    def _jobs(self) -> Path:
        """Where this study's finished jobs lie; other labels or code make it another study."""
        used = [
            [item.case.image_sha256, item.record.label_sha256]
            for item in (*self._train_labels, *self._validation_labels)
        ]
        key = sha256_json(
            {"manifest": self._manifest.sha256, "labels": used, "version": __version__}
        )
        return self._site.folder / "cache" / "jobs" / key[:16]
