// What an image is in its dataset, in words and as a mark: told apart by a letter, not by colour alone.

export const SPLIT_WORDS = {
  labelled: { filter: "Labelled, training", words: "labelled training image", short: "labelled", badge: "✓" },
  train: { filter: "Unlabelled, training", words: "training image whose label is not used", short: "unlabelled", badge: "" },
  test: { filter: "Test", words: "test image", short: "test", badge: "T" },
  swapped: { filter: "Test, habitats swapped", words: "test image, habitat swapped", short: "swapped", badge: "S" },
};

export function groupOf(columns, labelled, row) {
  return labelled.has(row) ? "labelled" : columns.splits[columns.split[row]];
}

/** "200 classes, 5,994 training and 5,794 test images" */
export function countWords(row) {
  const names = { train: "training", test: "test", swapped: "swapped test" };
  const images = Object.entries(row.images).map(([split, count]) => `${count.toLocaleString("en")} ${names[split] ?? split}`);
  const last = images.pop();
  return `${row.classes} classes, ${images.length ? `${images.join(", ")} and ${last}` : last} images`;
}

/** A refusal as sentences: what is wrong, and what to do. */
export function sentences({ message, hint }) {
  const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
  return [message, hint].filter(Boolean).map(sentence).join(" ");
}
