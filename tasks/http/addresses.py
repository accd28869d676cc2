"""Which addresses belong to the public internet: our own copy of IANA's special-purpose registries.

The interpreter's `ipaddress` has a copy too, an older or a newer one with each release; what may be called must not
depend on it. Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, IPv4 and IPv6 Address Space, and the
clouds' documentation of their metadata and platform services.
"""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL_IPV4 = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by carriers; Alibaba's metadata at 100.100.100.200
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local; most clouds' metadata at 169.254.169.254, ECS's at 169.254.170.2
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments; Oracle's metadata at 192.0.0.192
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # relays of 6to4, deprecated
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
    "168.63.129.16/32",  # Azure's platform
    "161.26.0.0/16",  # IBM's platform
    "166.8.0.0/14",  # IBM's platform
)
GLOBAL_IPV6 = "2000::/3"
"""The only IPv6 space that is given out: anything else is local, multicast, or not yet anything."""
SPECIAL_IPV6 = (
    "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, anycast
    "2001:db8::/32",  # documentation
    "3fff::/20",  # documentation
)
MAPPED = "::ffff:0:0/96"
NAT64 = "64:ff9b::/96"
SIX_TO_FOUR = "2002::/16"

_special_ipv4 = tuple(map(ipaddress.IPv4Network, SPECIAL_IPV4))
_special_ipv6 = tuple(map(ipaddress.IPv6Network, SPECIAL_IPV6))
_global_ipv6 = ipaddress.IPv6Network(GLOBAL_IPV6)
_carriers = {
    ipaddress.IPv6Network(MAPPED): 0,
    ipaddress.IPv6Network(NAT64): 0,
    ipaddress.IPv6Network(SIX_TO_FOUR): 80,
}
"""Networks whose addresses carry an IPv4 address, and how many bits stand behind it."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, looking inside IPv6 forms that carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _special_ipv4)
    for network, behind in _carriers.items():
        if address in network:
            return is_public(ipaddress.IPv4Address((int(address) >> behind) & 0xFFFFFFFF))
    return address in _global_ipv6 and not any(address in network for network in _special_ipv6)
