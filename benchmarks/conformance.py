"""Each method beside its public code: a translation, the loss terms of four updates and the weights
after them, from the same weights on the same random images, in float64. The recognisers beside
arcface_torch: embeddings in evaluation mode, then one update with the ArcFace margin.

`--peer FOLDER` names a checkout; nothing of it is kept here. The programs' own classes take their
own training steps with their own optimisers; the steps of programs that need Caffe (SG-GAN) or GPUs
(arcface_torch) are written down here. On both sides spectral normalisation divides by the exact
singular value, and CUT compares all positions instead of 256 drawn ones; the margin of ArcFace has
no gradient, as in its code; what remains is the formula. Dropout, and terms by networks that have
to be downloaded, are left out. The columns give the largest difference: of the output (pixels, or
numbers of an embedding) and of weights as they are, of a loss term relative to it. Adam makes a
step of the learning rate of a gradient that is nothing but rounding, so the largest difference of
weights can be larger than that of 99.9 % of them.
"""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import aggan.attention
import aggan.layers
import aggan.methods.cut
from aggan.data import Batch
from aggan.methods import create_method
from aggan.methods.registry import eval_mode
from aggan.recognition.backbones import IResNet, MobileFaceNet
from aggan.recognition.synthetic_recognisers import ArcFaceMargin
from aggan.runtime.distributed import Dropout

WIDTH, UPDATES = 8, 4
SHARED_NAMES = ("models", "options", "util", "data", "networks", "utils", "dataset", "UGATIT")
SHARED_NAMES += ("backbones", "losses")


@contextlib.contextmanager
def checkout(folder: Path) -> Iterator[None]:
    """Import from a checkout, in float64; modules of the same names are forgotten."""
    for name in list(sys.modules):
        if name.partition(".")[0] in SHARED_NAMES:
            del sys.modules[name]
    missing = {"ipdb": ModuleType("ipdb")}  # a debugger that one of them imports
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    try:
        with (
            mock.patch.dict(sys.modules, missing),
            mock.patch.object(sys, "path", [str(folder), *sys.path]),
            contextlib.redirect_stdout(sys.stderr),  # the table is what is printed
        ):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def paired_weights(theirs: nn.Module, ours: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Trained weights of both networks, by order and shape, where sides of 1 do not count; theirs
    are views in the order of ours. Raises ValueError where one is left alone.
    """
    left, pairs = [p for p in theirs.parameters() if p.requires_grad], []
    for name, own in ((name, p) for name, p in ours.named_parameters() if p.requires_grad):
        index = next(
            (i for i, p in enumerate(left) if p.squeeze().shape == own.squeeze().shape), None
        )
        if index is None:
            raise ValueError(f"their {type(theirs).__name__} has no weight for our {name}")
        other = left.pop(index).data
        if "norm_output" in name:  # Axial-GAN's alternates between both parts, ours joins them
            pairs.append((other.unflatten(0, (-1, 2)).T, own.data.unflatten(0, (2, -1))))
        else:
            pairs.append((other.view_as(own), own.data))
    if left:
        raise ValueError(f"our {type(ours).__name__} has no place for {len(left)} weights")
    return pairs


def exact_singular_value(matrix: Tensor) -> Tensor:
    """u^T W v with the exact singular vectors, which are constants as in a power iteration."""
    u, _, v = torch.linalg.svd(matrix.detach(), full_matrices=False)
    return torch.dot(u[:, 0], matrix @ v[0])


def use_exact_singular_values(network: nn.Module) -> None:
    """In every layer under `torch.nn.utils.spectral_norm`."""

    def compute_weight(layer: nn.Module, do_power_iteration: bool) -> Tensor:
        hook = next(h for h in layer._forward_pre_hooks.values() if hasattr(h, "compute_weight"))
        weight = getattr(layer, f"{hook.name}_orig")
        return weight / exact_singular_value(hook.reshape_weight_to_matrix(weight))

    for layer in network.modules():
        for hook in layer._forward_pre_hooks.values():
            if hasattr(hook, "compute_weight"):
                hook.compute_weight = compute_weight


@contextlib.contextmanager
def exact_layers() -> Iterator[None]:
    """Our spectral normalisation divides by the exact singular value."""

    def largest(layer: nn.Module) -> Tensor:
        return exact_singular_value(aggan.layers.weight_matrix(layer))

    with mock.patch.object(aggan.layers, "largest_singular_value", largest):
        yield


def no_dropout() -> contextlib.AbstractContextManager:
    """Our dropout keeps everything."""
    return mock.patch.object(Dropout, "forward", lambda self, x: x)


@dataclass
class Comparison:
    """A method and its public counterpart, before the first update."""

    ours: nn.Module  # a Method, or a Recogniser
    generate: Callable[[Tensor], Tensor]  # thermal to visible, in training mode; or an embedding
    networks: list[tuple[nn.Module, nn.Module]]  # theirs and ours
    their_generate: Callable[[Tensor], Tensor]
    their_step: Callable[[Tensor, Tensor], dict[str, Tensor]]  # weighted terms, named as ours
    size: int = 64  # pixels of a side
    updates: int = UPDATES
    settings: list = field(default_factory=list)  # contexts that both run in


def random_images(size: int) -> list[Tensor]:
    """Thermal and visible images (2,3,size,size) of each update."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(UPDATES, 2, 2, 3, size, size, generator=generator)
    return list(2 * drawn - 1)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Of all numbers of two tensors."""
    return float((ours.flatten() - theirs.flatten()).detach().abs().max())


def relative_differences(made: Comparison, own: dict, theirs: dict[str, Tensor]) -> list[float]:
    """Of the weighted loss terms of an update, relative to the term."""
    return [
        abs(made.ours.weights.get(term, 1.0) * float(own[term]) / float(value) - 1)
        for term, value in theirs.items()
    ]


def compare(method: str, made: Comparison) -> dict:
    """A row: how far a method is from its public code."""
    pairs = []
    made.ours.train()
    for theirs, ours in made.networks:
        use_exact_singular_values(theirs)
        pairs += paired_weights(theirs, ours)
    for other, own in pairs:
        own.copy_(other)
    optimizers, terms = made.ours.optimizers(), []
    images = random_images(made.size)[: made.updates]
    with contextlib.ExitStack() as stack:
        for setting in (exact_layers(), *made.settings):
            stack.enter_context(setting)
        output = largest_difference(made.generate(images[0][0]), made.their_generate(images[0][0]))
        for thermal, visible in images:
            own = made.ours.training_step(Batch(thermal, visible, None, None), optimizers)
            terms += relative_differences(made, own, made.their_step(thermal, visible))
    apart = torch.cat([(own - other).abs().flatten() for other, own in pairs]).sort().values
    return {
        "method": method,
        "output": output,
        "loss terms": max(terms),
        "weights, 99.9 %": float(apart[int(0.999 * len(apart))]),
        "weights, largest": float(apart[-1]),
    }


def framework_model(folder: Path, name: str, *flags: str, width: int = WIDTH) -> SimpleNamespace:
    """A model of a program that descends from pytorch-CycleGAN-and-pix2pix, on the CPU."""
    given = ["train.py", "--dataroot", "none", "--model", name]
    sizes = ["--ngf", str(width), "--ndf", str(width)]
    with mock.patch.object(sys, "argv", [*given, *sizes, *flags]):
        options = importlib.import_module("options.train_options").TrainOptions().gather_options()
    # its older and its newer versions ask for the CPU by different options
    options.isTrain, options.gpu_ids, options.device = True, [], torch.device("cpu")
    models = importlib.import_module("models")
    return models.find_model_using_name(name)(options)


def framework_step(
    model: SimpleNamespace,
    terms: dict[str, tuple[str, ...]],  # our name -> their losses, which are summed
    prepared: Callable[[Tensor, Tensor], dict] = lambda thermal, visible: {},
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Its own update."""

    def step(thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        images = {"A": thermal, "B": visible, "A_paths": [], "B_paths": []}
        model.set_input(images | prepared(thermal, visible))
        model.optimize_parameters()
        return {
            term: sum(getattr(model, f"loss_{name}").detach() for name in names)
            for term, names in terms.items()
        }

    return step


TWO_WAY_TERMS = {
    "adversarial": ("G_A", "G_B"),
    "cycle": ("cycle_A", "cycle_B"),
    "same": ("idt_A", "idt_B"),
    "discriminators": ("D_A", "D_B"),
}


def two_way(method: str, folder: Path, name: str, *flags: str, **options) -> Comparison:
    """CycleGAN, and AttentionGAN, which is trained alike."""
    theirs = framework_model(folder, name, "--norm", "instance", *flags)
    ours = create_method(method, width=WIDTH, discriminator_width=WIDTH, image_size=64, **options)
    networks = [
        (theirs.netG_A, ours.generators.visible),
        (theirs.netG_B, ours.generators.thermal),
        (theirs.netD_A, ours.discriminators.visible),
        (theirs.netD_B, ours.discriminators.thermal),
    ]

    def their_generate(thermal: Tensor) -> Tensor:
        made = theirs.netG_A(thermal)
        return made[0] if isinstance(made, tuple) else made

    return Comparison(
        ours,
        ours.generators.visible,
        networks,
        their_generate,
        framework_step(theirs, TWO_WAY_TERMS),
    )


def cyclegan(folder: Path) -> Comparison:
    return two_way(
        "cyclegan", folder, "cycle_gan", "--netG", "resnet_9blocks", "--gan_mode", "lsgan"
    )


def attentiongan(folder: Path) -> Comparison:
    return two_way("attentiongan", folder, "attention_gan")


def pix2pix(folder: Path) -> Comparison:
    flags = ("--netG", "unet_128", "--norm", "batch", "--no_dropout")
    theirs = framework_model(folder, "pix2pix", *flags)
    ours = create_method("pix2pix", width=WIDTH, discriminator_width=WIDTH, image_size=128)
    terms = {"adversarial": ("G_GAN",), "pixel": ("G_L1",), "discriminator": ("D",)}
    return Comparison(
        ours,
        ours.generator,
        [(theirs.netG, ours.generator), (theirs.netD, ours.discriminator)],
        theirs.netG,
        framework_step(theirs, terms),
        size=128,
        settings=[no_dropout()],
    )


def all_positions(features: list[Tensor], count: int = 0) -> list[Tensor]:
    """Every position of each map."""
    return [torch.arange(x[0, 0].numel()) for x in features]


def cut(folder: Path) -> Comparison:
    theirs = framework_model(folder, "cut", "--num_patches", "1000000", "--batch_size", "2")
    thermal, visible = random_images(24)[0]
    before = {name: p.clone() for name, p in theirs.netG.state_dict().items()}
    theirs.data_dependent_initialize({"A": thermal, "B": visible, "A_paths": []})
    theirs.netG.load_state_dict(before)
    ours = create_method("cut", width=WIDTH, discriminator_width=WIDTH, image_size=24)
    terms = {
        "adversarial": ("G_GAN",),
        "nce": ("NCE",),
        "nce_same": ("NCE_Y",),
        "discriminator": ("D",),
    }
    step = framework_step(theirs, terms)

    def halved(thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        losses = step(thermal, visible)  # theirs halve the sum of both
        return losses | {name: losses[name] / 2 for name in ("nce", "nce_same")}

    return Comparison(
        ours,
        ours.generator,
        [
            (theirs.netG, ours.generator),
            (theirs.netF, ours.head),
            (theirs.netD, ours.discriminator),
        ],
        theirs.netG,
        halved,
        size=24,
        settings=[mock.patch.object(aggan.methods.cut, "draw_positions", all_positions)],
    )


def axial_gan(folder: Path) -> Comparison:
    networks = importlib.import_module("models.networks")
    no_features = SimpleNamespace(to=lambda device: lambda fake, real: fake.sum() * 0.0)
    with mock.patch.object(networks, "VGGLoss", lambda: no_features):
        theirs = framework_model(folder, "pix2pix_conf", "--no_dropout", width=64)
    theirs.criterionGAN.Tensor = torch.DoubleTensor  # theirs is a GPU's
    ours = create_method(
        "axial-gan",
        width=64,  # the only one of their decoder
        discriminator_width=64,
        image_size=128,
        lambda_perceptual=0.0,
    )
    terms = {
        "adversarial": ("G_GAN",),
        "pixel": ("G_L1",),
        "matching": ("G_DFeat",),
        "discriminator": ("D",),
    }

    generator, discriminator = ours.generator, ours.discriminator
    (first, second, third), (coarse, fine) = generator.up, generator.axial
    generator_in_their_order = [generator.stem, first, coarse, second, fine, third]
    generator_in_their_order += [generator.refine, generator.to_image]
    stages = [m for pair in zip(discriminator.convs, discriminator.axial) for m in pair]

    def prepared(thermal: Tensor, visible: Tensor) -> dict:
        small = ours.generator_input(thermal)
        return {"A": small, "A_rec": F.interpolate(small, size=128, mode="bicubic")}

    def their_generate(thermal: Tensor) -> Tensor:
        made = theirs.netG(ours.generator_input(thermal))
        return made[0][0] if isinstance(made, tuple) else made

    return Comparison(
        ours,
        lambda thermal: generator(ours.generator_input(thermal)).visible,
        [
            (theirs.netG, nn.ModuleList(generator_in_their_order)),
            (theirs.netD, nn.ModuleList([*stages, discriminator.to_patch])),
        ],
        their_generate,
        framework_step(theirs, terms, prepared),
        size=128,
        settings=[no_dropout()],
    )


def sg_gan(folder: Path) -> Comparison:
    """Networks of theirs; the step of `models/pix2pix_model.py` without the terms by networks that
    have to be downloaded.
    """
    networks = importlib.import_module("models.networks")
    generator = networks.define_G(3, 3, WIDTH, "unet_128", "batch", False)
    discriminator = networks.define_D(6, WIDTH, "basic", use_sigmoid=True)
    given = dict(lambda_perceptual=0.0, identity="none", parser="none", image_size=128)
    ours = create_method("sg-gan", width=WIDTH, discriminator_width=WIDTH, **given)
    adam = {
        network: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (generator, discriminator)
    }

    def judged(thermal: Tensor, visible: Tensor, target: float) -> Tensor:
        answers = discriminator(torch.cat([thermal, visible], 1))
        return F.binary_cross_entropy(answers, torch.full_like(answers, target))

    def step(thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        fake = generator(thermal)
        adam[discriminator].zero_grad()
        real = judged(thermal, visible, 1.0)
        loss = (judged(thermal, fake.detach(), 0.0) + real) * 0.5
        loss.backward()
        adam[discriminator].step()
        adam[generator].zero_grad()
        terms = {"adversarial": judged(thermal, fake, 1.0)}
        terms["pixel"] = F.l1_loss(fake, visible) * 100
        sum(terms.values()).backward()
        adam[generator].step()
        return {name: term.detach() for name, term in terms.items()} | {"discriminator": loss}

    pairs = [(generator, ours.generator), (discriminator, ours.discriminator)]
    return Comparison(
        ours, ours.generator, pairs, generator, step, size=128, settings=[no_dropout()]
    )


class RawCAM(aggan.attention.ClassActivationAttention):
    """The public discriminator scales its map by the raw weights and takes its logits of the
    normalised ones; ours takes the normalised ones for both.
    """

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = super().attend(x)[1]
        self.spectral, spectral = False, self.spectral
        features = super().attend(x)[0]
        self.spectral = spectral
        return features, logits


class Recorder(nn.Module):
    """A criterion that keeps what it returns."""

    def __init__(self, criterion: nn.Module):
        super().__init__()
        self.criterion, self.kept = criterion, []

    def forward(self, *given: Tensor) -> Tensor:
        self.kept.append(self.criterion(*given))
        return self.kept[-1]


class Repeated:
    """Images in the place of a DataLoader, which gives them by Python 2's method."""

    def __init__(self, images: Tensor):
        self.images = images

    def __iter__(self) -> "Repeated":
        return self

    def __next__(self) -> tuple[Tensor, None]:
        return self.images, None

    next = __next__


def generator_in_their_order(generator: nn.Module) -> nn.ModuleList:
    """Its modules in the order of `ResnetGenerator`."""
    decoder, head = generator.decoder, generator.decoder.head
    first = [generator.attention, head.gamma, head.beta, decoder.blocks, generator.encoder]
    return nn.ModuleList([*first, head.fc1, head.fc2, decoder.up, decoder.to_image])


def discriminator_in_their_order(scale: nn.Module) -> nn.ModuleList:
    """Its modules in the order of `Discriminator`."""
    return nn.ModuleList([scale.attention, scale.to_patch, scale.convs])


def u_gat_it(folder: Path) -> Comparison:
    """Its own `train`, an iteration at a time, with the light head."""
    program = importlib.import_module("UGATIT")
    theirs = program.UGATIT.__new__(program.UGATIT)
    vars(theirs).update(light=True, img_size=96, ch=WIDTH, n_res=2, lr=1e-4, weight_decay=1e-4)
    vars(theirs).update(adv_weight=1, cycle_weight=10, identity_weight=10, cam_weight=1000)
    vars(theirs).update(iteration=1, resume=False, decay_flag=False, device="cpu", batch_size=2)
    vars(theirs).update(print_freq=10**9, save_freq=10**9, dataset="", result_dir="")
    loading = dict.fromkeys(("ImageFolder", "DataLoader", "transforms"), mock.DEFAULT)
    with mock.patch.multiple(program, **loading):
        theirs.build_model()
    recorders = [Recorder(nn.MSELoss()), Recorder(nn.L1Loss()), Recorder(nn.BCEWithLogitsLoss())]
    theirs.MSE_loss, theirs.L1_loss, theirs.BCE_loss = recorders

    def step(thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        theirs.trainA_loader, theirs.trainB_loader = Repeated(thermal), Repeated(visible)
        for recorder in recorders:
            recorder.kept.clear()
        theirs.train()
        squares, distances, entropies = (recorder.kept for recorder in recorders)
        return {
            "discriminators": sum(squares[:16]),
            "adversarial": sum(squares[16:]),
            "cycle": 10 * sum(distances[:2]),
            "same": 10 * sum(distances[2:]),
            "cam": 1000 * sum(entropies),
        }

    ours = create_method(
        "u-gat-it", width=WIDTH, blocks=2, head="light", image_size=96, discriminator_width=WIDTH
    )
    for module in ours.discriminators.modules():
        if isinstance(module, aggan.attention.ClassActivationAttention):
            module.__class__ = RawCAM
    domains = [("A", "B", "thermal"), ("B", "A", "visible")]
    networks = [
        (
            getattr(theirs, f"gen{source}2{own}"),
            generator_in_their_order(getattr(ours.generators, domain)),
        )
        for own, source, domain in domains
    ]
    networks += [
        (getattr(theirs, f"dis{scale}{own}"), discriminator_in_their_order(judge))
        for own, _, domain in domains
        for scale, judge in zip("LG", getattr(ours.discriminators, domain).scales)
    ]
    return Comparison(
        ours,
        lambda thermal: ours.generators.visible(thermal).visible,
        networks,
        lambda thermal: theirs.genA2B(thermal)[0],
        step,
        size=96,
    )


class PublicMargin(nn.Module):
    """A loss of arcface_torch on embeddings, as its `PartialFC_V2` takes it on GPUs."""

    def __init__(self, criterion: nn.Module, classes: int, embedding: int):
        super().__init__()
        self.criterion = criterion
        self.weight = nn.Parameter(0.01 * torch.randn(classes, embedding))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight)).clamp(-1, 1)
        return F.cross_entropy(self.criterion(cosines, labels), labels)


class ConstantMargin(ArcFaceMargin):
    """The public loss adds the margin as a constant; ours differentiates it."""

    def logits(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        added = super().logits(embeddings, labels) - self.scale * cosines
        return self.scale * cosines + added.detach()


class Recogniser(nn.Module):
    """A backbone and a margin loss, trained as arcface_torch does: four images, four people."""

    weights: dict[str, float] = {}

    def __init__(self, backbone: nn.Module, margin: nn.Module):
        super().__init__()
        self.backbone, self.margin = backbone, margin

    def embed(self, faces: Tensor) -> Tensor:
        with eval_mode(self.backbone):
            return self.backbone(faces)

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

    def training_step(self, batch: Batch, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        embeddings = self.backbone(torch.cat([batch.thermal, batch.visible]))
        loss = self.margin(embeddings, torch.arange(len(embeddings)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"margin": loss.detach()}


@torch.no_grad()
def randomise(network: nn.Module, faces: Tensor) -> None:
    """All of its state: weights at random, statistics of normalisations of these images."""
    for weight in network.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    network(faces)
    for norm in norms:
        norm.momentum = 0.1


def recogniser(folder: Path, name: str, architecture: type[nn.Module]) -> Comparison:
    """The state goes over by its names, into our network of the size that the state tells."""
    backbone = importlib.import_module("backbones").get_model(name)
    randomise(backbone, torch.cat(list(random_images(112)[-1])))
    own = architecture.like(backbone.state_dict())
    own.load_state_dict(backbone.state_dict())
    criterion = importlib.import_module("losses").CombinedMarginLoss(64, 1.0, 0.5, 0.0)
    classes, embedding = 8, own.config["embedding"]
    theirs = Recogniser(backbone, PublicMargin(criterion, classes, embedding))
    ours = Recogniser(own, ConstantMargin(classes, embedding))
    optimizer = theirs.optimizers()

    def step(thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        return theirs.training_step(Batch(thermal, visible, None, None), optimizer)

    return Comparison(ours, ours.embed, [(theirs, ours)], theirs.embed, step, size=112, updates=1)


RECOGNISERS = {"r18": IResNet, "r50": IResNet, "r100": IResNet}
RECOGNISERS |= {"mbf": MobileFaceNet, "mbf_large": MobileFaceNet}

# a file of the checkout, words that it has, the methods in it; the first that fits counts, because
# programs that descend from pytorch-CycleGAN-and-pix2pix keep copies of its methods
CODES = (
    ("UGATIT.py", "class UGATIT", {"u-gat-it": u_gat_it}),
    ("models/cut_model.py", "class CUTModel", {"cut": cut}),
    ("models/attention_gan_model.py", "class AttentionGANModel", {"attentiongan": attentiongan}),
    ("models/pix2pix_conf_model.py", "class Pix2PixConfModel", {"axial-gan": axial_gan}),
    ("models/pix2pix_model.py", "caffe", {"sg-gan": sg_gan}),
    ("models/pix2pix_model.py", "gan_mode", {"pix2pix": pix2pix, "cyclegan": cyclegan}),
    (
        "backbones/iresnet.py",
        "class IResNet",
        {name: partial(recogniser, name=name, architecture=a) for name, a in RECOGNISERS.items()},
    ),
)


def program_of(folder: Path) -> Path:
    """The folder itself; of insightface, which has many programs, that of the recognisers."""
    inner = folder.resolve() / "recognition" / "arcface_torch"
    return inner if inner.is_dir() else folder.resolve()


def methods_of(folder: Path) -> dict[str, Callable[[Path], Comparison]]:
    """The methods whose public code a checkout is. Raises FileNotFoundError where it is none."""
    for name, words, methods in CODES:
        if (folder / name).is_file() and words in (folder / name).read_text(encoding="utf-8"):
            return methods
    raise FileNotFoundError(
        f"{folder} has none of {', '.join(sorted({name for name, _, _ in CODES}))}: name a "
        "checkout of UGATIT-pytorch, pytorch-CycleGAN-and-pix2pix, "
        "contrastive-unpaired-translation, AttentionGAN, axial-gan, SG-GAN or insightface"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", nargs="+", required=True, help="folders of public code")


def measure(given: argparse.Namespace) -> list[dict]:
    folders = [program_of(Path(folder)) for folder in given.peer]
    rows = []
    for folder, methods in [(folder, methods_of(folder)) for folder in folders]:
        for method, prepare in methods.items():
            with checkout(folder):
                rows.append(compare(method, prepare(folder)) | {"code": folder.name})
    return rows
