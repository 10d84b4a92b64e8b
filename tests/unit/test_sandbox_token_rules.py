"""The token rules as a whole: a sandbox in memory against a model, step by step as Hypothesis likes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.domain.secret import Secret
from worker.sandbox.authorization_server import AuthorizationServer, open_authorization_server
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.clients import Client, new_client
from worker.sandbox.families import PREFIX_HEX_DIGITS, FamilyStatus, RevokedBecause
from worker.sandbox.issuing import start_family
from worker.sandbox.misbehaviour import Misbehaviour, Order
from worker.sandbox.profiles import RFC6749
from worker.sandbox.refreshing import Handled, RefreshRequest, handle_refresh, settle
from worker.sandbox.replies import Answered
from worker.sandbox.token_meaning import token_hash
from worker.sandbox.world import World

positions = st.sampled_from([0, 0, 0, 1, 2])  # counted from the newest family
LOST = Order(kind=Misbehaviour.LOST_REPLY, times=1)
FAILS_BEFORE = Order(kind=Misbehaviour.ERROR_BEFORE, times=1)
# The token's age in rotations, the seconds that pass afterwards, the fault that meets the request.
presentations = st.tuples(
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0, 0, 0, 1, 5]),
    st.sampled_from([None, None, None, LOST, FAILS_BEFORE]),
)


@dataclass
class ModelToken:
    """What the model knows of one refresh token."""

    value: str
    consumed_at: float | None = None
    idle_end: float | None = None
    successor: ModelToken | None = None
    answer_arrived: bool = False
    presented: int = 0


@dataclass
class ModelFamily:
    """What the model knows of one family; the last token is the current one."""

    family_id: int
    end: float | None
    tokens: list[ModelToken]
    revoked: bool = False


@dataclass
class ModelCounts:
    """What the model has counted."""

    presented: int = 0
    rotations: int = 0
    replayed_in_grace: int = 0
    double_spends: int = 0
    after_withheld: int = 0
    more_than_once: int = 0


class TokenRules(RuleBasedStateMachine):
    """Presents tokens old and new, loses answers, lets time pass, and compares every outcome with the model."""

    server: AuthorizationServer
    client: Client

    @initialize(
        grace=st.sampled_from([0, 5]),
        ends_on_use=st.booleans(),
        revokes=st.booleans(),
        idle=st.sampled_from([None, None, 4, 20]),
        absolute=st.sampled_from([None, None, 30]),
    )
    def open_sandbox(
        self, grace: int, ends_on_use: bool, revokes: bool, idle: int | None, absolute: int | None
    ) -> None:
        """Open a sandbox with one client under drawn rules."""
        self.now = 1000.0
        self.minted: dict[str, str] = {}
        world = World(now=lambda: self.now, new_token=self._mint, draw=lambda: 0.5)
        self.server = open_authorization_server(origin="http://sandbox", state_path=None, world=world)
        self.behaviour = Behaviour(
            reuse_grace=grace,
            grace_ends_on_use=ends_on_use,
            reuse_revokes_family=revokes,
            refresh_idle_timeout=idle,
            absolute_lifetime=absolute,
        )
        self.client = new_client(
            client_id="us",
            profile=RFC6749,
            name="Us",
            secret=Secret("s"),
            redirect_uris=("http://127.0.0.1:9/",),
            behaviour=self.behaviour,
        )
        self.families: list[ModelFamily] = []
        self.counts = ModelCounts()
        self.seed()

    @rule()
    def seed(self) -> None:
        """Start a family."""
        with self.server.transaction():
            family_id, answer = start_family(
                self.server, client=self.client, account="ada", scope="profile", now=self.now
            )
        assert answer.refresh_token is not None
        first = ModelToken(answer.refresh_token.reveal(), idle_end=self._after(self.behaviour.refresh_idle_timeout))
        end = self._after(self.behaviour.absolute_lifetime)
        self.families.append(ModelFamily(family_id=family_id, end=end, tokens=[first]))

    @rule(which=positions, presentations=st.lists(presentations, min_size=1, max_size=8))
    def present(self, which: int, presentations: list[tuple[int, int, Order | None]]) -> None:
        """Present tokens of one family, new and old, now and then under a fault, and compare with the model."""
        family = self._family(which)
        for age, seconds, order in presentations:
            token = family.tokens[max(0, len(family.tokens) - 1 - age)]
            self._present_one(family, token, order)
            self.now += seconds
            if self._status(family) is not FamilyStatus.ALIVE:
                self._present_one(family, token, None)
                self.seed()
                return

    @rule()
    def present_nonsense(self) -> None:
        """A token that was never issued is refused and harms nobody."""
        self.counts.presented += 1
        handled = self._refresh(ModelToken("made-up"))
        assert isinstance(handled.reply, Answered)
        assert handled.reply.status == 400

    @rule(which=positions)
    def revoke(self, which: int) -> None:
        """End a family from outside."""
        family = self._family(which)
        with self.server.transaction():
            revoked = self.server.families.revoke(
                family.family_id, because=RevokedBecause.CONSENT_REVOKED, now=self.now
            )
        assert revoked is not family.revoked
        family.revoked = True

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @invariant()
    def the_report_adds_up(self) -> None:
        """Every figure of the report is the model's."""
        report = self.server.report("us")
        counts = self.counts
        assert report.refreshes_presented == counts.presented
        assert report.rotations == counts.rotations
        assert report.grace_replays == counts.replayed_in_grace
        assert report.double_spends == counts.double_spends
        assert report.replays_after_withheld_answer == counts.after_withheld
        assert report.presented_more_than_once == counts.more_than_once
        assert report.rotations + len(self.families) == sum(len(family.tokens) for family in self.families)
        statuses = [self._status(family) for family in self.families]
        assert report.families == {status: statuses.count(status) for status in FamilyStatus}

    @invariant()
    def each_family_has_one_unconsumed_token(self) -> None:
        """Whatever happened, a family's newest token is its only unconsumed one, and the listing shows it."""
        listed = self.server.families.listing("us", status=None, after=0, limit=1000, now=self.now)
        newest = {family.family_id: token_hash(Secret(family.tokens[-1].value)).hex() for family in self.families}
        assert {family.family_id: family.token_sha256_prefix for family in listed} == {
            family_id: sha256[:PREFIX_HEX_DIGITS] for family_id, sha256 in newest.items()
        }
        unconsumed = self.server.store.connection.execute(
            "SELECT family_id, lower(hex(hash)) FROM refresh_tokens WHERE consumed_at IS NULL ORDER BY family_id"
        ).fetchall()
        assert unconsumed == sorted(newest.items())

    def teardown(self) -> None:
        """Release the sandbox."""
        if hasattr(self, "server"):
            self.server.close()

    def _family(self, which: int) -> ModelFamily:
        return self.families[-1 - which % len(self.families)]

    def _present_one(self, family: ModelFamily, token: ModelToken, order: Order | None) -> None:
        if order is not None:
            with self.server.transaction():
                self.server.orders.place(order)
        self._count_presentation(token)
        expected = self._expected(family, token)
        handled = self._refresh(token)
        if order is not FAILS_BEFORE:
            self._apply(family, token, expected, handled, arrives=order is None)
        else:
            assert isinstance(handled.reply, Answered)
            assert handled.reply.status == 503

    def _refresh(self, token: ModelToken) -> Handled:
        request = RefreshRequest(client=self.client, refresh_token=Secret(token.value))
        handled = handle_refresh(self.server, request, client_is_there=lambda: True)
        settle(self.server, handled, client_is_there=lambda: True)
        return handled

    def _count_presentation(self, token: ModelToken) -> None:
        self.counts.presented += 1
        token.presented += 1
        self.counts.more_than_once += token.presented == 2
        if token.consumed_at is not None:
            self.counts.double_spends += token.answer_arrived
            self.counts.after_withheld += not token.answer_arrived

    def _expected(self, family: ModelFamily, token: ModelToken) -> str:
        if self._status(family) is FamilyStatus.REVOKED or self._is_over(family.end):
            return "refused"
        if token.consumed_at is None:
            return "refused" if self._is_over(token.idle_end) else "rotated"
        used = token.successor is not None and token.successor.consumed_at is not None
        in_time = self.now < token.consumed_at + self.behaviour.reuse_grace
        if in_time and not (used and self.behaviour.grace_ends_on_use):
            return "given again"
        return "reused"

    def _apply(self, family: ModelFamily, token: ModelToken, expected: str, handled: Handled, *, arrives: bool) -> None:
        answered = handled.reply.body.decode() if isinstance(handled.reply, Answered) else None
        assert (answered is not None) is arrives
        match expected:
            case "rotated":
                record = self.server.families.listing(
                    "us", status=None, after=family.family_id - 1, limit=1, now=self.now
                )[0]
                successor = ModelToken(
                    self.minted[record.token_sha256_prefix],
                    idle_end=self._after(self.behaviour.refresh_idle_timeout),
                )
                token.consumed_at, token.successor, token.answer_arrived = self.now, successor, arrives
                family.tokens.append(successor)
                self.counts.rotations += 1
            case "given again":
                token.answer_arrived |= arrives
                self.counts.replayed_in_grace += 1
            case "reused":
                family.revoked |= self.behaviour.reuse_revokes_family
            case _:
                assert expected == "refused"
        if answered is not None and token.successor is not None and expected in {"rotated", "given again"}:
            assert f'"refresh_token":"{token.successor.value}"' in answered
        elif answered is not None:
            assert '"error":"invalid_grant"' in answered

    def _mint(self) -> str:
        # Remembered by hash, so that even a token whose answer was lost can be told.
        value = f"token-{len(self.minted)}"
        self.minted[token_hash(Secret(value)).hex()[:PREFIX_HEX_DIGITS]] = value
        return value

    def _after(self, lifetime: int | None) -> float | None:
        return None if lifetime is None else self.now + lifetime

    def _is_over(self, end: float | None) -> bool:
        return end is not None and self.now >= end

    def _status(self, family: ModelFamily) -> FamilyStatus:
        if family.revoked:
            return FamilyStatus.REVOKED
        over = self._is_over(family.end) or self._is_over(family.tokens[-1].idle_end)
        return FamilyStatus.EXPIRED if over else FamilyStatus.ALIVE


TestTokenRules = TokenRules.TestCase
