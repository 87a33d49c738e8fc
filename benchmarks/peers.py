"""The networks of peers' public code, in the step that their programs take: for whoever has a
checkout and names its folder; nothing of it is kept here.

UGATIT-pytorch (znxlwm) has the modules of AG-GAN: they go into the plain step of `plain.py`.
pytorch-CycleGAN-and-pix2pix (junyanz) has both methods of its name: their steps are written down
here as `models/cycle_gan_model.py` and `models/pix2pix_model.py` take them, without CycleGAN's
pool of earlier images, which costs nothing.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import ModuleType

import torch
from plain import PlainAGGAN
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam


def against(answers: Tensor, target: float) -> Tensor:
    """Least squares, as GANLoss("lsgan")."""
    return F.mse_loss(answers, torch.full_like(answers, target))


def cross_entropy(answers: Tensor, target: float) -> Tensor:
    """As GANLoss("vanilla")."""
    return F.binary_cross_entropy_with_logits(answers, torch.full_like(answers, target))


def adam(*networks: nn.Module) -> Adam:
    """The optimiser that these networks share."""
    return Adam(
        chain.from_iterable(network.parameters() for network in networks),
        lr=2e-4,
        betas=(0.5, 0.999),
    )


class Answers(nn.Module):
    """A discriminator of U-GAT-IT without the map that it also returns."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(pair)[:2]


def ag_gan(networks: ModuleType, size: int, width: int, layers: tuple[int, ...]) -> Callable:
    """AG-GAN of the modules of U-GAT-IT, for pairs."""
    generator = networks.ResnetGenerator(3, 3, ngf=width, n_blocks=4, img_size=size, light=True)
    discriminators = nn.ModuleList(
        Answers(networks.Discriminator(6, ndf=width, n_layers=n)) for n in layers
    )
    return PlainAGGAN(layers=layers, networks=(generator, discriminators)).step


class PeerCycleGAN:
    """Two generators, two discriminators, as its defaults have them."""

    def __init__(self, networks: ModuleType, size: int, width: int, layers: tuple[int, ...]):
        self.to_visible, self.to_thermal = (
            networks.define_G(3, 3, width, "resnet_9blocks", "instance", False) for _ in range(2)
        )
        self.judge_visible, self.judge_thermal = (
            networks.define_D(3, width, "basic", 3, "instance") for _ in range(2)
        )
        self.generators, self.discriminators = (
            adam(self.to_visible, self.to_thermal),
            adam(self.judge_visible, self.judge_thermal),
        )

    def generator_loss(
        self, thermal: Tensor, visible: Tensor, fake_visible: Tensor, fake_thermal: Tensor
    ) -> Tensor:
        """Adversarial, cycle and identity terms of both directions."""
        cycle = F.l1_loss(self.to_thermal(fake_visible), thermal) + F.l1_loss(
            self.to_visible(fake_thermal), visible
        )
        same = F.l1_loss(self.to_visible(visible), visible) + F.l1_loss(
            self.to_thermal(thermal), thermal
        )
        return (
            against(self.judge_visible(fake_visible), 1.0)
            + against(self.judge_thermal(fake_thermal), 1.0)
            + 10 * cycle
            + 5 * same
        )

    def step(self, thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """One update of both generators, then one of each discriminator."""
        fake_visible, fake_thermal = self.to_visible(thermal), self.to_thermal(visible)
        judges = nn.ModuleList([self.judge_visible, self.judge_thermal]).requires_grad_(False)
        self.generators.zero_grad()
        generators = self.generator_loss(thermal, visible, fake_visible, fake_thermal)
        generators.backward()
        self.generators.step()

        judges.requires_grad_(True)
        self.discriminators.zero_grad()
        discriminators = 0
        for judge, genuine, fake in (
            (self.judge_visible, visible, fake_visible),
            (self.judge_thermal, thermal, fake_thermal),
        ):
            loss = 0.5 * (against(judge(genuine), 1.0) + against(judge(fake.detach()), 0.0))
            loss.backward()
            discriminators += loss.detach()
        self.discriminators.step()
        return {"generators": generators.detach(), "discriminators": discriminators}


class PeerPix2Pix:
    """U-Net and discriminator of pairs, as its defaults have them. Raises ValueError for a size
    that its code has no U-Net for.
    """

    def __init__(self, networks: ModuleType, size: int, width: int, layers: tuple[int, ...]):
        if size not in (128, 256):
            raise ValueError(
                "The public code of pix2pix has a U-Net for 128 and one for 256 pixels, "
                f"none for {size}"
            )
        self.generator, self.discriminator = (
            networks.define_G(3, 3, width, f"unet_{size}", "batch", True),
            networks.define_D(6, width, "basic", 3, "batch"),
        )
        self.generator_optimizer, self.discriminator_optimizer = (
            adam(self.generator),
            adam(self.discriminator),
        )

    def step(self, thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """One update of the discriminator, then one of the generator."""
        translated = self.generator(thermal)
        self.discriminator_optimizer.zero_grad()
        fake, genuine = (
            self.discriminator(torch.cat([thermal, translated.detach()], 1)),
            self.discriminator(torch.cat([thermal, visible], 1)),
        )
        discriminator = 0.5 * (cross_entropy(fake, 0.0) + cross_entropy(genuine, 1.0))
        discriminator.backward()
        self.discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)
        self.generator_optimizer.zero_grad()
        adversarial, pixel = (
            cross_entropy(self.discriminator(torch.cat([thermal, translated], 1)), 1.0),
            F.l1_loss(translated, visible),
        )
        (adversarial + 100 * pixel).backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        return {
            "discriminator": discriminator.detach(),
            "adversarial": adversarial.detach(),
            "pixel": pixel.detach(),
        }


PEERS = {  # file of the networks -> words that only this file has, and what can be made of it
    "networks.py": ("class RhoClipper", {"ag-gan": ag_gan}),
    "models/networks.py": (
        "def define_G",
        {
            "cyclegan": lambda *given: PeerCycleGAN(*given).step,
            "pix2pix": lambda *given: PeerPix2Pix(*given).step,
        },
    ),
}


def steps_of(folder: str) -> tuple[Path, dict[str, Callable]]:
    """The file of a checkout's networks, and the steps that are made of them, by method. Raises
    FileNotFoundError for a folder that is neither.
    """
    for name, (words, steps) in PEERS.items():
        path = Path(folder) / name
        if path.is_file() and words in path.read_text(encoding="utf-8"):
            return path, steps
    raise FileNotFoundError(
        f"{folder} is no checkout of UGATIT-pytorch (its networks.py), "
        "nor of pytorch-CycleGAN-and-pix2pix (its models/networks.py)"
    )


def peer_step(
    folder: str, method: str, size: int, width: int, layers: tuple[int, ...]
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """A method's step with a peer's networks."""
    path, steps = steps_of(folder)
    spec = importlib.util.spec_from_file_location("peer_networks", path)
    networks = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(sys.stderr):  # what they print is no answer of a contestant
        spec.loader.exec_module(networks)
        return steps[method](networks, size, width, layers)
