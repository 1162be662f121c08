"""The binary format: what is read, and every way in which a file can be wrong."""

import numpy as np
import pytest
from generated_images import generated, write

from experiments.cifar10 import loader
from experiments.cifar10.loader import RECORD, DataError


@pytest.mark.parametrize("n", [1, 7])
def test_a_file_of_any_number_of_records_reads_back(tmp_path, n):
    images = generated(n, 5)
    found = loader.read(write(tmp_path / "some.bin", images))
    np.testing.assert_array_equal(found.pixels, images.pixels)
    np.testing.assert_array_equal(found.labels, images.labels)
    assert found.fingerprint() == images.fingerprint() != generated(n, 6).fingerprint()


def test_a_byte_lies_where_the_format_says(tmp_path):
    record = np.zeros(RECORD, np.uint8)
    record[0] = 7
    record[1 + 1024 + 32 * 5 + 9] = 200  # green, row 5, column 9
    (tmp_path / "one.bin").write_bytes(record.tobytes())
    found = loader.read(tmp_path / "one.bin")
    assert found.labels.tolist() == [7]
    assert found.pixels[0, 5, 9].tolist() == [0, 200, 0]
    assert found.pixels.sum() == 200


def test_training_files_are_joined_in_order(data_folder):
    train, test = loader.load(data_folder)
    assert train.pixels.shape == (80, 32, 32, 3) and test.pixels.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(train.pixels[30:], generated(50, 2).pixels)
    assert train.first(3).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (bytes(2 * RECORD - 1), "6145 bytes, which is no multiple of 3073"),
        (bytes(RECORD) + bytes([10]) + bytes(RECORD - 1), "record 1 has label 10"),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path, content, message):
    path = tmp_path / "bad.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        loader.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist or is no folder"):
        loader.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no data_batch_\*.bin"):
        loader.load(tmp_path)
    write(tmp_path / "data_batch_1.bin", generated(2, 0))
    with pytest.raises(DataError, match=r"test_batch.bin cannot be read"):
        loader.load(tmp_path)


def test_the_real_images_look_like_photographs(real_folder):
    train, test = loader.load(real_folder)
    assert set(train.labels) == set(test.labels) == set(range(10))
    # Neighbouring pixels of a photograph agree; with rows, columns or colours mixed up they do not.
    x = train.pixels[:500].astype(float)
    for one, other in (
        (x[:, 1:], x[:, :-1]),
        (x[:, :, 1:], x[:, :, :-1]),
        (x[..., 1:], x[..., :-1]),
    ):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.85
