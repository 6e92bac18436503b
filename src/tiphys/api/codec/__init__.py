"""Bodies to objects and back.

``decode`` gives the object in a request body as Go's decoder would leave it in memory, less what the wire form leaves
out; ``complete`` adds what it always shows; ``encode`` writes it. A clean JSON body costs a parse and one compiled
check; anything else goes through a second reader that repairs, warns and explains.
"""

from tiphys.api.codec.complete import complete
from tiphys.api.codec.decoding import Decoded, decode, media_type, normalize
from tiphys.api.codec.empties import with_empties
from tiphys.api.codec.encoding import encode, ordered
from tiphys.api.codec.kinds import internal_type
from tiphys.api.codec.optionsbody import decode_delete_options
from tiphys.api.codec.settled import settle
from tiphys.api.codec.yamltext import from_json as to_yaml

__all__ = [
    "Decoded",
    "complete",
    "decode",
    "decode_delete_options",
    "encode",
    "internal_type",
    "media_type",
    "normalize",
    "ordered",
    "settle",
    "to_yaml",
    "with_empties",
]
