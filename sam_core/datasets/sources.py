"""Where the named datasets are published: the files, their sizes and checksums, where each belongs, on what terms.

URLs and MD5 sums of Aircraft, Flowers and Pets are those of `torchvision.datasets` 0.29, the MD5 sums of Cars those of
torchvision 0.14, the last version that could download it. The addresses of CUB-200-2011 are its CaltechDATA records.
Sizes and SHA-256 sums are those of TensorFlow Datasets (`url_checksums/`, `checksums.tsv`), except for Aircraft, where
they are what several public mirrors of the archive agree on, as they do on its MD5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CALTECH = "https://data.caltech.edu/records"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"

#: An unpacked archive takes this many times its own size: photographs hardly shrink, the text beside them does.
_UNPACKED = 1.25


@dataclass(frozen=True)
class RemoteFile:
    """One published file.

    Attributes:
        name: what its host calls it, and we while it is on its way.
        size: its bytes.
        checksums: the hexadecimal sums that it must have, by the algorithm's name in `hashlib`.
        target: where it belongs below the data root, with forward slashes. For an archive that is the folder it
            unpacks to, which has the name of the one folder in the archive that is wanted.
        urls: where it is served, tried in this order; none where no host that we know of serves it any more.
        adds: what the dataset is without if this file cannot be had; empty for a file that it needs.
    """

    name: str
    size: int
    checksums: Mapping[str, str]
    target: str
    urls: tuple[str, ...] = ()
    adds: str = ""

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked; other files stay as they are."""
        return self.name.endswith((".tgz", ".tar.gz"))

    @property
    def place(self) -> PurePosixPath:
        """Where the file itself lies below the data root: an archive beside what it unpacks to."""
        target = PurePosixPath(self.target)
        return target.parent / self.name if self.is_archive else target

    @property
    def unpacked_size(self) -> int:
        """About how many bytes it takes when it is unpacked, beside its own."""
        return int(self.size * _UNPACKED) if self.is_archive else 0


@dataclass(frozen=True)
class Source:
    """What a named dataset consists of, and who publishes it.

    Attributes:
        homepage: where its authors describe it.
        terms: on what terms it may be used, in our words; the homepage has theirs.
        files: its files. Those by which its folder is recognised come last, so that half a dataset is not taken for a
            whole one.
        holds: what its folder holds when it is complete.
        gone: why no host can be asked, where that is so.
    """

    homepage: str
    terms: str
    files: tuple[RemoteFile, ...]
    holds: str
    gone: str = ""

    @property
    def folder(self) -> str:
        """The name of its folder below the data root."""
        return PurePosixPath(self.files[0].target).parts[0]

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(file.size for file in self.files)

    def by_hand(self, files: tuple[RemoteFile, ...], data_root: Path) -> str:
        """What to place where, so that `files` need not be fetched, in one sentence."""
        places: dict[Path, list[str]] = {}
        for file in files:
            places.setdefault(Path(data_root, file.place).parent, []).append(file.name)
        whole = Path(data_root, self.folder)
        put = " and ".join(f"{', '.join(names)} into {folder}" for folder, names in places.items())
        return (
            f"from whoever has them, put {put} and run the same command again, which checks and unpacks them; "
            f"or have the unpacked dataset as {whole}, holding {self.holds}"
        )


SOURCES: dict[str, Source] = {
    "cub200": Source(
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        "for non-commercial research and education only; the photographs remain their photographers'",
        (
            RemoteFile(
                "CUB_200_2011.tgz",
                1_150_585_339,
                {
                    "md5": "97eceeb196236b17998738112f37df78",
                    "sha256": "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
                },
                "CUB_200_2011",
                (
                    f"{_CALTECH}/65de6-vp158/files/CUB_200_2011.tgz?download=1",
                    "https://data.caltech.edu/api/records/65de6-vp158/files/CUB_200_2011.tgz/content",
                ),
            ),
            RemoteFile(
                "segmentations.tgz",
                39_272_883,
                {
                    "md5": "4d47ba1228eae64f2fa547c47bc65255",
                    "sha256": "dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
                },
                "CUB_200_2011/segmentations",
                (
                    f"{_CALTECH}/w9d68-gec53/files/segmentations.tgz?download=1",
                    "https://data.caltech.edu/api/records/w9d68-gec53/files/segmentations.tgz/content",
                ),
                adds="the birds' masks",
            ),
        ),
        "images.txt, classes.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt, parts/, images/ "
        "and, for masks, segmentations/",
    ),
    "cars": Source(
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html (no longer served)",
        "published for research without a licence that we know of; the photographs remain their owners'",
        (
            RemoteFile(
                "cars_train.tgz",
                979_269_282,
                {
                    "md5": "065e5b463ae28d29e77c1b4b166cfe61",
                    "sha256": "512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
                },
                "stanford_cars/cars_train",
            ),
            RemoteFile(
                "cars_test.tgz",
                977_350_468,
                {
                    "md5": "4ce7ebf6a94d07f1952d94dd34c4d501",
                    "sha256": "bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
                },
                "stanford_cars/cars_test",
            ),
            RemoteFile(
                "cars_test_annos_withlabels.mat",
                185_758,
                {
                    "md5": "b0a2b23655a3edd16d84508592a98d10",
                    "sha256": "790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
                },
                "stanford_cars/cars_test_annos_withlabels.mat",
            ),
            RemoteFile(
                "car_devkit.tgz",
                330_960,
                {
                    "md5": "c3b158d763b6e2245038c8ad08e45376",
                    "sha256": "b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
                },
                "stanford_cars/devkit",
            ),
        ),
        "cars_train/, cars_test/, cars_test_annos_withlabels.mat, devkit/cars_meta.mat and devkit/cars_train_annos.mat",
        # github.com/pytorch/vision/issues/7545
        gone="its host, ai.stanford.edu, has answered 404 for every file since 2023",
    ),
    "aircraft": Source(
        f"{_OXFORD}/fgvc-aircraft/",
        "for non-commercial research only; the photographs remain their photographers'",
        (
            # An earlier archive of this name had another MD5; these are the sums of what is served now.
            RemoteFile(
                "fgvc-aircraft-2013b.tar.gz",
                2_753_340_328,
                {
                    "md5": "d4acdd33327262359767eeaa97a4f732",
                    "sha256": "e4e323d410e29f0370c81eabdcbb0e2b813acea1de22891b70b58ff41bfc9834",
                },
                "fgvc-aircraft-2013b",
                (f"{_OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
            ),
        ),
        "data/ with images/, images_variant_trainval.txt, images_variant_test.txt, variants.txt and images_box.txt",
    ),
    "flowers102": Source(
        f"{_OXFORD}/flowers/102/",
        "published for research without a licence that we know of; the photographs remain their photographers'",
        (
            RemoteFile(
                "102flowers.tgz",
                344_862_509,
                {
                    "md5": "52808999861908f626f3c1f4e79d11fa",
                    "sha256": "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
                },
                "flowers-102/jpg",
                (f"{_OXFORD}/flowers/102/102flowers.tgz",),
            ),
            RemoteFile(
                "imagelabels.mat",
                502,
                {
                    "md5": "e0620be6f572b9609742df49c70aed4d",
                    "sha256": "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
                },
                "flowers-102/imagelabels.mat",
                (f"{_OXFORD}/flowers/102/imagelabels.mat",),
            ),
            RemoteFile(
                "setid.mat",
                14_989,
                {
                    "md5": "a5357ecc9cb78c4bef273ce3793fc85c",
                    "sha256": "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
                },
                "flowers-102/setid.mat",
                (f"{_OXFORD}/flowers/102/setid.mat",),
            ),
        ),
        "jpg/, imagelabels.mat and setid.mat",
    ),
    "pets": Source(
        f"{_OXFORD}/pets/",
        "Creative Commons Attribution-ShareAlike 4.0; the photographs remain their owners'",
        (
            RemoteFile(
                "images.tar.gz",
                791_918_971,
                {
                    "md5": "5c4f3ee8e5d25df40f4fd59a7f44e54c",
                    "sha256": "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                },
                "oxford-iiit-pet/images",
                (f"{_OXFORD}/pets/data/images.tar.gz", "https://thor.robots.ox.ac.uk/~vgg/data/pets/images.tar.gz"),
            ),
            RemoteFile(
                "annotations.tar.gz",
                19_173_078,
                {
                    "md5": "95a8c909bbe2e81eed6a22bccdf3f68f",
                    "sha256": "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
                },
                "oxford-iiit-pet/annotations",
                (
                    f"{_OXFORD}/pets/data/annotations.tar.gz",
                    "https://thor.robots.ox.ac.uk/~vgg/data/pets/annotations.tar.gz",
                ),
            ),
        ),
        "images/ and annotations/ with trainval.txt, test.txt and, for masks, trimaps/",
    ),
}


def amount(size: float) -> str:
    """A number of bytes for people: `1.15 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"
