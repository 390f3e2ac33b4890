"""Public rooms: signed messages, one history on every node.

    chat = ChatService(index, network, ["OUT-USD"], authorize)
    wire = sign_message(key, network, "OUT-USD", account, sequence, now_ms, heads, "hello")
    accepted = chat.accept(wire, now_ms)   # then gossip `wire` if accepted.is_new

    request = chat.sync_request("OUT-USD")
    while request:                         # at most SYNC_PAGES_MAX times
        absorbed = chat.absorb(ask_peer(request), now_ms)  # there: chat.sync_response(request)
        request = absorbed.next_request

Synchronous: call it from a worker thread. `chat.faults` tells what can go wrong; `chat.rooms`
why histories cannot differ for long.
"""

from chat.faults import ChatFault as ChatFault
from chat.faults import RateLimited as RateLimited
from chat.faults import UnknownRoom as UnknownRoom
from chat.message import HEADS_ITEMS_MAX as HEADS_ITEMS_MAX
from chat.message import TEXT_BYTES_MAX as TEXT_BYTES_MAX
from chat.message import WIRE_BYTES_MAX as WIRE_BYTES_MAX
from chat.message import AdmittedMessage as AdmittedMessage
from chat.message import Message as Message
from chat.message import admit_message as admit_message
from chat.message import sign_message as sign_message
from chat.message import wire_of as wire_of
from chat.room import PAGE_MESSAGES_MAX as PAGE_MESSAGES_MAX
from chat.room import Room as Room
from chat.room import RoomStatistics as RoomStatistics
from chat.rooms import CLOCK_SKEW_MS_MAX as CLOCK_SKEW_MS_MAX
from chat.rooms import Absorbed as Absorbed
from chat.rooms import Accepted as Accepted
from chat.rooms import ChatService as ChatService
from chat.rooms import ChatStatistics as ChatStatistics
from chat.rooms import KeptMessage as KeptMessage
from chat.synchronisation import SYNC_PAGES_MAX as SYNC_PAGES_MAX
from chat.synchronisation import SYNC_REQUEST_BYTES_MAX as SYNC_REQUEST_BYTES_MAX
from chat.synchronisation import SYNC_RESPONSE_BYTES_MAX as SYNC_RESPONSE_BYTES_MAX
