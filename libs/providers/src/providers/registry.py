"""All providers by name: imported, read, done."""

from collections.abc import Mapping
from typing import Final

from providers.evolution import Evolution
from providers.meta_cloud import MetaCloud
from providers.protocol import Provider, ProviderName
from providers.zapi import ZApi

PROVIDERS: Final[Mapping[ProviderName, Provider]] = {
    "evolution_web": Evolution(cloud=False),
    "evolution_cloud": Evolution(cloud=True),
    "meta_cloud": MetaCloud(),
    "zapi": ZApi(),
}
