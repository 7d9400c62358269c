//! Words too common to say anything, and the language that they give away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A language whose stop words are known. Texts in others are read without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    English,
    /// German.
    #[serde(rename = "de")]
    German,
    /// French.
    #[serde(rename = "fr")]
    French,
    /// Spanish.
    #[serde(rename = "es")]
    Spanish,
    /// Russian.
    #[serde(rename = "ru")]
    Russian,
    /// Greek.
    #[serde(rename = "el")]
    Greek,
}

/// Share of the words of a text that must be stop words of a language for it to be that one: a tenth.
/// Half of a usual text is; a text in another language has a few by chance.
const SHARE: u64 = 10;

impl Language {
    const ALL: [Self; 6] = [
        Self::English,
        Self::German,
        Self::French,
        Self::Spanish,
        Self::Russian,
        Self::Greek,
    ];

    /// In lower case and NFC, in the order of their bytes.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::English => ENGLISH,
            Self::German => GERMAN,
            Self::French => FRENCH,
            Self::Spanish => SPANISH,
            Self::Russian => RUSSIAN,
            Self::Greek => GREEK,
        }
    }
}

/// The language whose stop words occur most.
pub(crate) fn guess<'a>(words: impl Iterator<Item = &'a str>) -> Option<Language> {
    let mut total = 0;
    let mut found: BTreeMap<Language, u64> = BTreeMap::new();
    for word in words {
        total += 1;
        for language in Language::ALL {
            if is_stop(word, Some(language)) {
                *found.entry(language).or_default() += 1;
            }
        }
    }
    let mut best = None;
    for (language, count) in found {
        if count * SHARE >= total && best.is_none_or(|(_, most)| count > most) {
            best = Some((language, count));
        }
    }
    best.map(|(language, _)| language)
}

/// Whether a word, in lower case and NFC, is a stop word of a language.
pub(crate) fn is_stop(word: &str, language: Option<Language>) -> bool {
    language.is_some_and(|language| language.words().binary_search(&word).is_ok())
}

#[rustfmt::skip]
const ENGLISH: &[&str] = &[
    "a", "about", "above", "after", "again", "against", "all", "almost", "along", "also",
    "although", "always", "am", "among", "an", "and", "another", "any", "are", "aren't", "around",
    "as", "at", "away", "be", "became", "because", "become", "been", "before", "behind", "being",
    "below", "between", "both", "but", "by", "came", "can", "can't", "cannot", "come", "could",
    "couldn't", "did", "didn't", "do", "does", "doesn't", "doing", "don't", "done", "down",
    "during", "each", "either", "else", "enough", "even", "ever", "every", "few", "first", "for",
    "from", "further", "gave", "get", "give", "given", "go", "goes", "going", "gone", "good", "got",
    "had", "hadn't", "has", "hasn't", "have", "haven't", "having", "he", "he'd", "he'll", "he's",
    "her", "here", "hers", "herself", "him", "himself", "his", "how", "however", "i", "i'd", "i'll",
    "i'm", "i've", "if", "in", "instead", "into", "is", "isn't", "it", "it's", "its", "itself",
    "just", "keep", "kept", "know", "last", "least", "less", "let", "like", "little", "long",
    "look", "made", "make", "makes", "many", "may", "me", "might", "mine", "more", "most", "much",
    "must", "my", "myself", "need", "neither", "never", "next", "no", "nobody", "none", "nor",
    "not", "nothing", "now", "of", "off", "often", "on", "once", "one", "only", "onto", "or",
    "other", "others", "our", "ours", "ourselves", "out", "over", "own", "part", "perhaps", "put",
    "quite", "rather", "said", "same", "say", "says", "see", "seem", "seen", "several", "shall",
    "she", "should", "since", "so", "some", "something", "soon", "still", "such", "take", "taken",
    "than", "that", "that's", "the", "their", "theirs", "them", "themselves", "then", "there",
    "these", "they", "they're", "they've", "thing", "things", "this", "those", "though", "three",
    "through", "till", "to", "together", "too", "took", "toward", "towards", "two", "under",
    "until", "up", "upon", "us", "use", "used", "very", "was", "wasn't", "way", "we", "we'll",
    "we're", "we've", "well", "went", "were", "weren't", "what", "when", "where", "whether",
    "which", "while", "who", "whole", "whom", "whose", "why", "will", "with", "within", "without",
    "won't", "would", "wouldn't", "yet", "you", "you'll", "you're", "you've", "your", "yours",
    "yourself",
];

#[rustfmt::skip]
const GERMAN: &[&str] = &[
    "ab", "aber", "all", "alle", "allem", "allen", "aller", "alles", "als", "also", "am", "an",
    "andere", "anderen", "anderer", "anderes", "auch", "auf", "aus", "außer", "bei", "beim", "bin",
    "bis", "bist", "bleibt", "da", "dabei", "dadurch", "dafür", "dagegen", "daher", "damit", "dann",
    "daran", "darauf", "daraus", "darf", "darin", "darum", "darüber", "das", "dass", "davon",
    "dazu", "dein", "deine", "dem", "den", "denn", "dennoch", "der", "deren", "des", "deshalb",
    "dessen", "desto", "dich", "die", "dies", "diese", "diesem", "diesen", "dieser", "dieses",
    "dir", "doch", "dort", "du", "durch", "ein", "eine", "einem", "einen", "einer", "eines",
    "einige", "einmal", "er", "erst", "es", "etwa", "etwas", "euch", "euer", "fast", "für", "gab",
    "ganz", "gar", "geben", "gegen", "geht", "gewesen", "gibt", "hab", "habe", "haben", "hat",
    "hatte", "hatten", "hier", "hin", "hinter", "ich", "ihm", "ihn", "ihnen", "ihr", "ihre",
    "ihrem", "ihren", "ihrer", "ihres", "im", "immer", "in", "indem", "ins", "ist", "ja", "je",
    "jede", "jedem", "jeden", "jeder", "jedes", "jedoch", "jemand", "jene", "jetzt", "kam", "kann",
    "kein", "keine", "keinem", "keinen", "keiner", "kommt", "konnte", "können", "lange", "lassen",
    "lässt", "machen", "macht", "man", "manche", "manchmal", "mehr", "mein", "meine", "mich", "mir",
    "mit", "muss", "musste", "müssen", "nach", "nachdem", "neben", "nicht", "nichts", "nie",
    "niemand", "noch", "nun", "nur", "ob", "obwohl", "oder", "oft", "ohne", "schon", "sehr", "sei",
    "sein", "seine", "seinem", "seinen", "seiner", "seit", "selbst", "sich", "sie", "siehe", "sind",
    "so", "sogar", "solche", "soll", "sollte", "sondern", "sonst", "soweit", "statt", "trotz", "um",
    "und", "uns", "unser", "unsere", "unter", "viel", "viele", "vielleicht", "vom", "von", "vor",
    "wann", "war", "waren", "warum", "was", "weder", "weil", "weiter", "welche", "welcher", "wem",
    "wen", "wenig", "wenn", "wer", "werde", "werden", "weshalb", "wie", "wieder", "will", "wir",
    "wird", "wirklich", "wo", "wohl", "wollen", "worden", "wurde", "wurden", "während", "wäre",
    "zu", "zum", "zur", "zwar", "zwei", "zwischen", "über",
];

#[rustfmt::skip]
const FRENCH: &[&str] = &[
    "a", "ai", "aie", "ainsi", "alors", "après", "as", "assez", "au", "aucun", "aucune",
    "aujourd'hui", "auquel", "aussi", "autant", "autour", "autre", "autres", "aux", "avait",
    "avant", "avec", "avez", "avoir", "avons", "bien", "c'est", "car", "ce", "ceci", "cela",
    "celle", "celles", "celui", "cependant", "certains", "ces", "cet", "cette", "ceux", "chaque",
    "chez", "comme", "comment", "contre", "d'un", "d'une", "dans", "de", "depuis", "derrière",
    "des", "deux", "devant", "doit", "donc", "dont", "du", "dès", "elle", "elles", "en", "encore",
    "enfin", "ensuite", "entre", "es", "est", "et", "eu", "eux", "faire", "fait", "fois", "font",
    "fut", "grâce", "hors", "ici", "il", "ils", "j'ai", "je", "jusqu", "jusque", "l'on", "la",
    "laquelle", "le", "lequel", "les", "leur", "leurs", "lors", "lorsque", "lui", "là", "ma",
    "mais", "malgré", "me", "mes", "mieux", "moi", "moins", "mon", "même", "mêmes", "n'a", "n'est",
    "ne", "ni", "non", "nos", "notre", "nous", "on", "ont", "or", "ou", "où", "par", "parce",
    "parfois", "parmi", "pas", "pendant", "peu", "peut", "peuvent", "plus", "plusieurs", "plutôt",
    "pour", "pourquoi", "presque", "puis", "qu'elle", "qu'il", "qu'ils", "qu'on", "qu'un", "qu'une",
    "quand", "que", "quel", "quelle", "quelles", "quelque", "quelques", "quels", "qui", "quoi",
    "sa", "sans", "sauf", "se", "selon", "sera", "ses", "seulement", "si", "sien", "son", "sont",
    "sous", "souvent", "suis", "sur", "ta", "tandis", "tant", "te", "tel", "telle", "tels", "tes",
    "toi", "ton", "toujours", "tous", "tout", "toute", "toutes", "trop", "très", "tu", "un", "une",
    "vers", "voici", "voilà", "vos", "votre", "vous", "y", "à", "ça", "étaient", "était", "été",
    "être",
];

#[rustfmt::skip]
const SPANISH: &[&str] = &[
    "a", "acá", "ahora", "ahí", "al", "algo", "alguien", "alguna", "algunas", "alguno", "algunos",
    "algún", "allá", "allí", "ante", "antes", "apenas", "aquel", "aquella", "aquello", "aquellos",
    "aquí", "así", "aun", "aunque", "aún", "bajo", "bien", "cada", "casi", "como", "con", "contra",
    "cosa", "cual", "cuales", "cualquier", "cuando", "cuanto", "de", "debe", "del", "desde",
    "donde", "dos", "durante", "e", "el", "ella", "ellas", "ello", "ellos", "en", "entonces",
    "entre", "era", "eran", "es", "esa", "esas", "ese", "eso", "esos", "esta", "estaba", "estado",
    "estamos", "estar", "estas", "este", "esto", "estos", "está", "están", "fue", "fuera", "fueron",
    "ha", "haber", "había", "habían", "hace", "hacen", "hacer", "hacia", "han", "hasta", "hay",
    "la", "las", "le", "les", "lo", "los", "luego", "mas", "me", "menos", "mi", "mientras", "mis",
    "misma", "mismo", "mucho", "muchos", "muy", "más", "mí", "nada", "nadie", "ni", "ninguna",
    "ningún", "no", "nos", "nosotros", "nuestra", "nuestro", "o", "os", "otra", "otras", "otro",
    "otros", "para", "pero", "poco", "por", "porque", "pronto", "puede", "pueden", "pues", "que",
    "quien", "quienes", "quizás", "qué", "se", "sea", "según", "ser", "si", "sido", "siempre",
    "sin", "sino", "sobre", "solo", "son", "su", "sus", "sí", "sólo", "también", "tampoco", "tan",
    "tanto", "te", "tener", "tiene", "tienen", "toda", "todas", "todavía", "todo", "todos", "tras",
    "tu", "tus", "tú", "un", "una", "unas", "uno", "unos", "usted", "va", "veces", "vez", "y", "ya",
    "yo", "él", "éste",
];

#[rustfmt::skip]
const RUSSIAN: &[&str] = &[
    "а", "без", "более", "больше", "будет", "будто", "бы", "был", "была", "были", "было", "быть",
    "в", "вам", "вас", "ведь", "весь", "во", "вот", "все", "всегда", "всего", "всех", "всю", "вы",
    "где", "да", "даже", "два", "для", "до", "другой", "его", "ее", "ей", "ему", "если", "есть",
    "еще", "ещё", "её", "же", "за", "зачем", "здесь", "и", "из", "или", "им", "иногда", "их", "к",
    "каждый", "как", "какая", "какой", "когда", "конечно", "которая", "которого", "которой",
    "которые", "который", "которых", "кто", "куда", "ли", "лучше", "между", "меня", "мне", "много",
    "может", "можно", "мой", "моя", "мы", "на", "над", "надо", "наконец", "нас", "не", "него",
    "нее", "ней", "нельзя", "нет", "ни", "нибудь", "никогда", "ним", "них", "ничего", "но", "ну",
    "о", "об", "один", "он", "она", "они", "оно", "опять", "от", "очень", "перед", "по", "под",
    "после", "потом", "потому", "почти", "при", "про", "раз", "разве", "с", "сам", "своей", "своих",
    "свой", "свою", "себе", "себя", "сейчас", "со", "совсем", "так", "также", "такой", "там",
    "тебя", "тем", "теперь", "то", "тогда", "того", "тоже", "только", "том", "тот", "три", "тут",
    "ты", "у", "уж", "уже", "хоть", "хотя", "чего", "чей", "чем", "через", "что", "чтоб", "чтобы",
    "чуть", "эта", "эти", "это", "этого", "этой", "этом", "этот", "эту", "я",
];

#[rustfmt::skip]
const GREEK: &[&str] = &[
    "ένα", "έναν", "ένας", "έτσι", "έχει", "έχουν", "ή", "ήδη", "ήταν", "αλλά", "αν", "από", "αυτά",
    "αυτές", "αυτή", "αυτού", "αυτό", "αυτός", "αυτών", "για", "γιατί", "δε", "δεν", "είναι",
    "είχαν", "είχε", "εγώ", "εδώ", "εκεί", "εκείνη", "εκείνο", "εμείς", "ενός", "ενώ", "επίσης",
    "εσείς", "η", "θα", "κάθε", "κάτι", "καθώς", "και", "κατά", "κι", "μέσα", "μέχρι", "μία", "μα",
    "μας", "με", "μετά", "μη", "μην", "μια", "μου", "μόνο", "να", "ξανά", "ο", "οι", "ούτε",
    "πάντα", "παρά", "πια", "πιο", "ποια", "ποιος", "πολύ", "που", "πού", "πρέπει", "πριν", "προς",
    "πρώτα", "πώς", "σαν", "σας", "σε", "στα", "στη", "στην", "στις", "στο", "στον", "στους",
    "στων", "τα", "τη", "την", "της", "τι", "τις", "το", "τον", "του", "τους", "των", "τότε",
    "χωρίς", "ως", "όλα", "όλοι", "όμως", "όπου", "όπως", "όσο", "όταν", "ότι", "ώστε",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_in_lower_case() {
        for language in Language::ALL {
            assert!(language.words().is_sorted_by(|a, b| a < b), "{language:?}");
            for word in language.words() {
                assert_eq!(*word, word.to_lowercase());
            }
        }
    }
}
