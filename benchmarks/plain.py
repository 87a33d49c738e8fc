"""AG-GAN written plainly, layer by layer as the paper and the public code of U-GAT-IT describe
it: what the benchmarks compare with.

Nothing here is arranged for speed: statistics are computed as they are defined, attention maps are
concatenated, images are enlarged before they are convolved, the generator runs in the
discriminator's half of a step, with gradients, and again in its own, the visible image passes the
whole generator, and discriminators see genuine and fake pairs in turn.

The other methods are compared with themselves: with plain layers, and with the steps of their
public code (taesungp/contrastive-unpaired-translation, NVlabs/MUNIT for LG-GAN,
junyanz/pytorch-CycleGAN-and-pix2pix, Ha0Tang/AttentionGAN), which call a network once for each
image, and CUT's and MUNIT's compute some of it twice.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Adam


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = False
) -> list[nn.Module]:
    """Reflection padding, then a convolution."""
    return [
        nn.ReflectionPad2d((kernel_size - 1) // 2),
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=bias),
    ]


class Residual(nn.Module):
    """Two convolutions with instance normalisation, added to their input (Eq. 4)."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            *conv(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            *conv(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class AdaLIN(nn.Module):
    """Instance and layer normalisation, mixed by rho."""

    def __init__(self, channels: int, rho: float):
        super().__init__()
        self.rho = nn.Parameter(torch.full((1, channels, 1, 1), rho))

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        instance = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
        layer = (x - x.mean((1, 2, 3), keepdim=True)) / (
            x.var((1, 2, 3), keepdim=True) + 1e-5
        ).sqrt()
        return (
            gamma[:, :, None, None] * (self.rho * instance + (1 - self.rho) * layer)
            + beta[:, :, None, None]
        )


class LIN(AdaLIN):
    """AdaLIN with a scale and shift of its own."""

    def __init__(self, channels: int):
        super().__init__(channels, 0.0)
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(1, channels)),
            nn.Parameter(torch.zeros(1, channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, self.gamma, self.beta)


class AdaptiveResidual(nn.Module):
    """A residual block of the decoder."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Sequential(*conv(channels, channels, 3)), AdaLIN(channels, 0.9)
        self.conv2, self.norm2 = nn.Sequential(*conv(channels, channels, 3)), AdaLIN(channels, 0.9)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return x + self.norm2(
            self.conv2(F.relu(self.norm1(self.conv1(x), gamma, beta))), gamma, beta
        )


class ClassActivation(nn.Module):
    """Two copies of the map, weighted by two classifiers, merged (Eq. 5 and 6)."""

    def __init__(self, channels: int, slope: float, spectral: bool = False):
        super().__init__()
        wrap = spectral_norm if spectral else nn.Identity()
        self.gap_head, self.gmp_head = (wrap(nn.Linear(channels, 1, bias=False)) for _ in range(2))
        self.merge, self.slope = nn.Conv2d(2 * channels, channels, 1), slope

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gap, gmp = F.adaptive_avg_pool2d(x, 1).flatten(1), F.adaptive_max_pool2d(x, 1).flatten(1)
        gap_weight, gmp_weight = (
            self.gap_head.weight,
            self.gmp_head.weight,
        )  # one power iteration for both uses
        logits = torch.cat([F.linear(gap, gap_weight), F.linear(gmp, gmp_weight)], 1)
        weighted = torch.cat(
            [x * gap_weight[:, :, None, None], x * gmp_weight[:, :, None, None]], 1
        )
        return F.leaky_relu(self.merge(weighted), self.slope), logits


class Generator(nn.Module):
    """Encoder, attention, decoder (Eq. 1 to 7), the light head."""

    def __init__(self, width: int = 64, blocks: int = 4):
        super().__init__()
        stages = [(3, width, 7, 1), (width, 2 * width, 3, 2), (2 * width, 4 * width, 3, 2)]
        self.down = nn.Sequential(
            *(
                layer
                for i, o, k, s in stages
                for layer in (*conv(i, o, k, s), nn.InstanceNorm2d(o), nn.ReLU())
            )
        )
        channels = 4 * width
        self.encoder_blocks = nn.Sequential(*(Residual(channels) for _ in range(blocks)))
        self.attention = ClassActivation(channels, 0.0)
        self.fc1, self.fc2, self.gamma, self.beta = (
            nn.Linear(channels, channels, bias=False) for _ in range(4)
        )
        self.decoder_blocks = nn.ModuleList(AdaptiveResidual(channels) for _ in range(blocks))
        self.up = nn.Sequential(
            *(
                layer
                for c in (channels, channels // 2)
                for layer in (
                    nn.Upsample(scale_factor=2),
                    *conv(c, c // 2, 3),
                    LIN(c // 2),
                    nn.ReLU(),
                )
            )
        )
        self.to_image = nn.Sequential(*conv(width, 3, 7), nn.Tanh())

    def forward(self, thermal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, logits = self.attention(self.encoder_blocks(self.down(thermal)))
        heatmap = x.sum(1, keepdim=True)
        style = F.relu(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1).flatten(1)))))
        gamma, beta = self.gamma(style), self.beta(style)
        for block in self.decoder_blocks:
            x = block(x, gamma, beta)
        return self.to_image(self.up(x)), logits, heatmap


class Discriminator(nn.Module):
    """One scale of D_v (§3.1.2)."""

    def __init__(self, layers: int, width: int = 64):
        super().__init__()
        widths, strides = [6, *(width * 2**i for i in range(layers - 1))], [2] * (layers - 2) + [1]
        convs = [conv(i, o, 4, s, bias=True) for i, o, s in zip(widths, widths[1:], strides)]
        self.layers = nn.Sequential(
            *(layer for pad, c in convs for layer in (pad, spectral_norm(c), nn.LeakyReLU(0.2)))
        )
        self.attention = ClassActivation(widths[-1], 0.2, spectral=True)
        pad, last = conv(widths[-1], 1, 4)
        self.to_patch = nn.Sequential(pad, spectral_norm(last))

    def forward(self, pair: Tensor) -> list[Tensor]:
        x, logits = self.attention(self.layers(pair))
        return [self.to_patch(x), logits]


def score(answers: list[Tensor], target: float) -> Tensor:
    """Least squares (Eq. 13 and the adversarial term), summed over maps and logits."""
    return sum(F.mse_loss(answer, torch.full_like(answer, target)) for answer in answers)


class PlainAGGAN:
    """AG-GAN with its training step; the identity term is left out."""

    def __init__(
        self,
        width: int = 64,
        blocks: int = 4,
        layers: tuple[int, ...] = (5, 7),
        networks: tuple[nn.Module, nn.ModuleList] | None = None,
    ):
        own = Generator(width, blocks), nn.ModuleList(Discriminator(n, width) for n in layers)
        self.generator, self.discriminators = networks or own
        rates = dict(lr=1e-4, betas=(0.5, 0.999), weight_decay=1e-4)
        self.generator_optimizer = Adam(self.generator.parameters(), **rates)
        self.discriminator_optimizer = Adam(self.discriminators.parameters(), **rates)

    def judge(self, thermal: Tensor, visible: Tensor) -> list[Tensor]:
        """The answers of all discriminators."""
        return [
            answer for d in self.discriminators for answer in d(torch.cat([thermal, visible], 1))
        ]

    def step(self, thermal: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """One update of the discriminators, then one of the generator."""
        self.discriminator_optimizer.zero_grad()
        translated, _, _ = self.generator(thermal)
        discriminator = score(self.judge(thermal, visible), 1.0) + score(
            self.judge(thermal, translated), 0.0
        )
        discriminator.backward()
        self.discriminator_optimizer.step()

        self.generator_optimizer.zero_grad()
        translated, thermal_logits, _ = self.generator(thermal)
        _, visible_logits, _ = self.generator(visible)
        adversarial, pixel = (
            score(self.judge(thermal, translated), 1.0),
            F.l1_loss(translated, visible),
        )
        cam = F.binary_cross_entropy_with_logits(
            thermal_logits, torch.ones_like(thermal_logits)
        ) + F.binary_cross_entropy_with_logits(visible_logits, torch.zeros_like(visible_logits))
        (adversarial + 100 * pixel + 1000 * cam).backward()
        self.generator_optimizer.step()
        for module in self.generator.modules():
            if isinstance(module, AdaLIN):
                module.rho.data.clamp_(0, 1)
        return {
            "discriminator": discriminator.detach(),
            "adversarial": adversarial.detach(),
            "pixel": pixel.detach(),
            "cam": cam.detach(),
        }


def literal_adalin(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """`forward` of `aggan.layers.AdaLIN`, as its formula is written."""
    gamma, beta, rho = (t[..., None, None] for t in (gamma, beta, self.rho))
    instance = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
    layer = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    return gamma * (rho * instance + (1 - rho) * layer) + beta


def literal_upsample(self, x: Tensor) -> Tensor:
    """`forward` of `aggan.layers.Upsample`: the large map is made, then convolved."""
    return F.conv2d(
        F.pad(F.interpolate(x, scale_factor=2), (self.kernel_size[0] // 2,) * 4, mode="reflect"),
        self.weight,
        self.bias,
    )


def one_by_one(network: nn.Module) -> None:
    """Let a network, without batch normalisation, see the images of a batch in turn: where the
    method passes two as one batch, its public code calls twice.
    """

    def forward(images: Tensor, whole=network.forward) -> Tensor:
        return torch.cat([whole(image) for image in images.split(1)])

    network.forward = forward


def literal_painting(self, images: Tensor) -> Tensor:
    """`forward` of AttentionGAN's generator as its public code writes it: each picture cut out,
    multiplied by its mask repeated over the channels, and added.
    """
    from aggan.methods.blocks import as_channels

    features, channels = self.trunk(images), self.out_channels
    pictures, masks = torch.tanh(self.content(features)), F.softmax(self.attention(features), dim=1)
    painted = [
        pictures[:, channels * i : channels * (i + 1)]
        * masks[:, i : i + 1].repeat(1, channels, 1, 1)
        for i in range(self.contents)
    ]
    return sum(
        painted,
        start=as_channels(images, channels) * masks[:, self.contents :].repeat(1, channels, 1, 1),
    )


def cut_contrast(self, features: list[Tensor], translated: Tensor) -> tuple[Tensor, Tensor]:
    """`contrast` of CUT as its public code computes it: each image's keys from another pass
    through the encoder, whose graph is made and not used.
    """
    from aggan.methods.blocks import as_channels
    from aggan.methods.cut import draw_positions, patch_nce

    losses = []
    for source, target in zip(
        features[0][..., 3:-3, 3:-3].split(1), as_channels(translated, self.channels).split(1)
    ):
        queries, keys = self.generator.features(target), self.generator.features(source)
        positions = draw_positions(keys)
        pairs = zip(self.head(queries, positions), self.head(keys, positions))
        losses.append(sum(patch_nce(query, key) for query, key in pairs) / len(keys))
    return tuple(losses)


def munit_step(self, batch, optimizers: dict[str, Adam]) -> dict[str, Tensor]:
    """`training_step` of LG-GAN, which has no public code, in the order of MUNIT's, its
    ancestor: the discriminators' update makes its images itself, with gradients, the
    generators' makes them again, one at a time, and differentiates the discriminators' weights
    too.
    """
    from aggan.losses import least_squares

    images = {"visible": batch.visible, "thermal": batch.thermal}

    def encode():
        return {domain: self.generators(image, domain) for domain, image in images.items()}

    def decode(codes, own):
        return {
            domain: self.generators.decode(
                codes[domain if own else other][0], codes[domain][1], domain
            )
            for domain, other in (("visible", "thermal"), ("thermal", "visible"))
        }

    optimizers["discriminators"].zero_grad()
    fakes = decode(encode(), own=False)
    loss = sum(
        least_squares(self.discriminators(fakes[domain].detach(), domain), 0.0)
        + least_squares(self.discriminators(images[domain], domain), 1.0)
        for domain in images
    )
    loss.backward()
    optimizers["discriminators"].step()

    optimizers["generators"].zero_grad()
    codes = encode()
    terms = self.generator_losses(images, codes, decode(codes, own=False), decode(codes, own=True))
    sum(self.weights[name] * term for name, term in terms.items()).backward()
    optimizers["generators"].step()
    return {name: loss.detach() for name, loss in (terms | {"discriminators": loss}).items()}


def as_published(method: nn.Module) -> None:
    """Give the method back the work that its public code does and ours avoids."""
    from aggan.methods import attentiongan, cut, cyclegan, lg_gan

    if isinstance(method, attentiongan.AttentionGAN):
        for network in method.generators.children():
            network.forward = literal_painting.__get__(network)
    if isinstance(method, cyclegan.CycleGAN):  # AttentionGAN too
        for network in (*method.generators.children(), *method.discriminators.children()):
            one_by_one(network)
    elif isinstance(method, cut.CUT):
        one_by_one(method.discriminator)
        method.contrast = cut_contrast.__get__(method)
    elif isinstance(method, lg_gan.LGGAN):
        method.training_step = munit_step.__get__(method)


def with_plain_layers(method: nn.Module) -> nn.Module:
    """The method itself, its layers computed as their authors write them: direct convolutions,
    divided weights, literal normalisation, enlarged maps; and its step in the order of its
    public code where ours differs.
    """
    from aggan import layers
    from aggan.runtime.distributed import Dropout

    for module in list(method.modules()):
        if isinstance(module, layers.LIN):
            module.forward = lambda x, module=module: literal_adalin(
                module, x, module.gamma, module.beta
            )
        elif isinstance(module, layers.AdaLIN):
            module.forward = literal_adalin.__get__(module)
        elif isinstance(module, layers.Upsample):
            module.forward = literal_upsample.__get__(module)
        elif isinstance(module, Dropout):
            module.forward = lambda x, module=module: F.dropout(x, 0.5, module.training)
        if "u" in module._buffers and module._forward_hooks:
            del module._buffers["u"], module._buffers["v"]
            module._forward_hooks.clear()
            spectral_norm(module)
    as_published(method)
    return method


def plain_optimizers(method: nn.Module) -> dict[str, Adam]:
    """The method's optimisers, tensor by tensor instead of fused."""
    optimizers = method.optimizers()
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["fused"] = False
    return optimizers
