import unittest

from app import Words
from componentize_py_types import Err
from wsgate import forward, replace, reply, testing


class WordsTest(unittest.TestCase):
    def test_words_are_replaced(self) -> None:
        connection = testing.open(Words)
        self.assertEqual(connection.to_upstream("teh cat"), replace("the cat"))
        self.assertEqual(connection.to_upstream("the cat"), forward())

    def test_the_count_outlives_a_reload(self) -> None:
        connection = testing.open(Words, {"words": ["a", "b"], "replacement": "-"})
        self.assertEqual(connection.to_upstream("abc"), replace("--c"))
        connection.reload()
        self.assertEqual(connection.to_upstream("how many?"), reply('{"replaced":2}'))

    def test_a_mistake_in_the_configuration_names_its_key(self) -> None:
        with self.assertRaises(Err) as raised:
            testing.open(Words, {"words": [1]})
        self.assertEqual(raised.exception.value, "words[0]: expected a string, got 1")

    def test_an_empty_token_is_refused(self) -> None:
        with self.assertRaises(Err) as raised:
            testing.open(Words, query="token=")
        self.assertEqual(raised.exception.value.status, 401)


if __name__ == "__main__":
    unittest.main()
