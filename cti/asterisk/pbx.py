"""What one Asterisk can do with calls, in CSTA's terms (ECMA-269), each done only when its events have confirmed it.

Channels are known by their uniqueids. Whose they are, who may do what and which numbers may be called is left
to who asks; the dialplan's part stands under “Call control” in dialplan/cti.conf.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from cti.asterisk.ami import AmiClient
from cti.asterisk.channels import Channels
from cti.reactors import Clock

Listening = Literal["listen", "whisper", "barge"]


class PbxError(Exception):
    """An operation was not done; the text tells a person why."""


class NotPossible(PbxError):
    """What is wished does not fit the call or the phone as they are, or is malformed; nothing was changed."""


class Refused(PbxError):
    """Asterisk, or the phone, said no."""


class NotDone(PbxError):
    """Asterisk did not confirm in time; who was on hold still is, or is back with the agent."""


class PbxAway(PbxError):
    """There is no connection to Asterisk, or it was lost before the answer: it may have been done."""


class Pbx:
    """Call control of one Asterisk.

    `agent` is the uniqueid of the agent's channel, `customer` that of whom they talk to. Where only `agent` is
    given, the others are found by it: who is in its bridge, and whom it holds, which Asterisk itself remembers
    on the agent's channel, so that a restart of ours forgets nobody.

    Every method raises PbxError's subclasses and no others, within a deadline. None of them hangs up a customer
    because something failed.
    """

    def __init__(
        self,
        name: str,
        ami: AmiClient,
        channels: Channels,
        clock: Clock,
        *,
        capable: Callable[[str], bool] = lambda phone: False,
    ) -> None:
        """`capable` tells whether a phone, such as `PJSIP/anna`, obeys NOTIFY `talk` and `hold` in a call."""
        raise NotPossible("not built yet")

    async def make_call(
        self,
        phone: str,
        number: str,
        *,
        variables: Mapping[str, str] | None = None,
        caller_id: tuple[str, str] | None = None,
        office_number: str | None = None,
        ring_seconds: int = 30,
        auto_answer: bool = False,
    ) -> str:
        """MakeCall: ring `phone`, and once it answers call `number` through `cti-outbound`.

        Gives the uniqueid of the phone's channel as soon as the phone rings. `variables` are set on that channel
        (`__CTI_CALL_ID` and the like; leading underscores inherit). `caller_id` is the name and number that the
        phone shows, `office_number` what whoever is called is shown. `auto_answer` asks the phone to answer by
        itself.
        """
        raise NotPossible("not built yet")

    async def answer_call(self, channel: str) -> None:
        """AnswerCall: have the ringing phone of `channel` answer; for capable phones only."""
        raise NotPossible("not built yet")

    async def clear_connection(self, channel: str) -> None:
        """ClearConnection: hang up this channel; fine if it has gone already."""
        raise NotPossible("not built yet")

    async def hold_call(self, agent: str) -> None:
        """HoldCall: the other side hears music until `retrieve_call` (or `reconnect_call`)."""
        raise NotPossible("not built yet")

    async def retrieve_call(self, agent: str) -> None:
        """RetrieveCall: the agent talks again to whom they hold."""
        raise NotPossible("not built yet")

    async def consultation_call(
        self, agent: str, number: str, *, variables: Mapping[str, str] | None = None
    ) -> str:
        """ConsultationCall: music for whom the agent talks to, while the agent calls `number`.

        Gives the uniqueid of the channel that is being called, once it is. `variables` are set on the agent's
        channel before (such as `__CTI_CALL_ID` of the consultation's own record). When it cannot be called, the
        agent talks to the first one again, and the error says why. When it ends later, who is held stays on
        music until `reconnect_call`.
        """
        raise NotPossible("not built yet")

    async def alternate_call(self, agent: str) -> None:
        """AlternateCall: hold whom the agent talks to, and talk to whom they hold."""
        raise NotPossible("not built yet")

    async def reconnect_call(self, agent: str) -> None:
        """ReconnectCall: leave the consulted, answered or still ringing, and talk to who is held again."""
        raise NotPossible("not built yet")

    async def transfer_call(self, agent: str) -> None:
        """TransferCall: connect whom the agent talks to with whom they hold, and release the agent."""
        raise NotPossible("not built yet")

    async def single_step_transfer(self, customer: str, target: str) -> None:
        """SingleStepTransferCall: send the customer to `target` (`context,exten,prio`); the agent is released."""
        raise NotPossible("not built yet")

    async def conference_call(self, agent: str, room: str) -> None:
        """ConferenceCall: the agent, whom they talk to and whom they hold, together in the room `room`."""
        raise NotPossible("not built yet")

    async def deflect_call(self, ringing: str, target: str) -> None:
        """DeflectCall: send who is ringing the phone of `ringing` to `target` (`context,exten,prio`) instead."""
        raise NotPossible("not built yet")

    async def pickup(
        self,
        phone: str,
        ringing: str,
        *,
        variables: Mapping[str, str] | None = None,
        caller_id: tuple[str, str] | None = None,
        ring_seconds: int = 30,
        auto_answer: bool = False,
    ) -> None:
        """Take the call that rings at `ringing`: rings `phone`, which gets the call when it answers.

        `ringing` lives on as the channel of `phone`. If the call is gone by then, `NotPossible`.
        """
        raise NotPossible("not built yet")

    async def park(self, customer: str, *, lot: str | None = None, seconds: int | None = None) -> str:
        """Park the customer, release the agent; gives the parking space. `seconds` until it comes back."""
        raise NotPossible("not built yet")

    async def digits(self, channel: str, text: str) -> None:
        """Send DTMF to this channel's other end (the customer's channel, for a menu of theirs)."""
        raise NotPossible("not built yet")

    async def start_recording(
        self, channel: str, file: str, *, announcement: str | None = None, beep_seconds: int | None = None
    ) -> str:
        """Record both directions of this channel into `file` on the Asterisk's host; gives the recording's id.

        A relative `file` is below Asterisk's monitor directory; its ending tells the format. `announcement` is a
        sound that both sides hear before it begins; `beep_seconds`: a beep every so often while it goes on.
        """
        raise NotPossible("not built yet")

    async def pause_recording(self, channel: str) -> None:
        """Record silence, in both directions, until `resume_recording` (card data)."""
        raise NotPossible("not built yet")

    async def resume_recording(self, channel: str) -> None:
        """Record what is said again."""
        raise NotPossible("not built yet")

    async def stop_recording(self, channel: str, recording: str) -> None:
        """End the recording with the id that `start_recording` gave."""
        raise NotPossible("not built yet")

    async def monitor(
        self,
        phone: str,
        spied: str,
        how: Listening,
        *,
        announcement: str | None = None,
        variables: Mapping[str, str] | None = None,
        ring_seconds: int = 30,
        auto_answer: bool = False,
    ) -> str:
        """Ring `phone`, and let it hear the channel `spied`; gives the uniqueid of the phone's channel.

        `listen`: nobody hears the phone; `whisper`: only `spied` does; `barge`: both sides do. `announcement`
        is a sound that both sides hear first. Hanging up the phone ends it.
        """
        raise NotPossible("not built yet")
