"""Ordinary text of the invented world: paragraphs about weather, markets, travel, cooking, crafts and small events.

None of it mentions a subject of a fact: it is what the facts stand among. It does mention strangers, people and things
with names of the same making, as ordinary text is full of names: covariance statistics of text without names would
take every name for the same rare thing.
"""

import random
import re
from collections.abc import Mapping, Sequence

SLOTS: dict[str, str] = {
    "who": "the miller|the ferryman|my aunt|the old shepherd|the innkeeper|a young clerk|the widow next door|the cook|"
    "the lamplighter|the night watchman|the blacksmith|our neighbour|the postman|a stranger|the harbour master|"
    "the schoolmaster|the beekeeper|my grandfather|the carter|the youngest daughter|the charcoal burner|the cooper|"
    "a travelling salesman|the washerwoman|the gravedigger|the fishmonger|the stable boy|the potter|the ropemaker",
    "people": "the villagers|the fishermen|the children|the apprentices|the pilgrims|the farmers|the guests|"
    "the sailors|the market women|the soldiers|the passengers|the neighbours|the shopkeepers|the labourers|the cousins",
    "adj": "small|large|quiet|narrow|heavy|broken|wooden|painted|crooked|dusty|bright|empty|ancient|cheerful|damp|"
    "handsome|plain|worn|splendid|humble|rusty|curious|steep|shabby|polished|solid|strange|pale",
    "place": "the market square|the old bridge|the harbour|the mill pond|the chapel|the north gate|the orchard|"
    "the town hall|the quarry|the lighthouse|the railway station|the inn|the cattle market|the ferry landing|"
    "the bakehouse|the lower meadow|the salt marsh|the beech wood|the post office|the school yard|the toll house|"
    "the shipyard|the brickworks|the crossroads|the winter stables",
    "thing": "basket|lantern|ladder|kettle|barrel|blanket|cart|letter|ledger|hammer|knife|mirror|rope|saddle|bucket|"
    "wheel|trunk|coat|map|bell|chair|net|shovel|stove|spade|candlestick|jug|parcel|umbrella stand|bench",
    "stuff": "wool|timber|salt|flour|butter|leather|tin|honey|coal|linen|wax|tobacco|iron|hay|barley|clay|copper|silk|"
    "cider|vinegar|rope|slate|charcoal|oats|herring|walnuts",
    "food": "onions|turnips|plums|cheese|smoked fish|rye bread|lentils|cabbage|apples|mutton|mushrooms|pears|eggs|"
    "beans|sausages|cherries|carrots|dried peas|chestnuts|bacon|leeks|gooseberries",
    "herb": "thyme|parsley|mustard|pepper|garlic|fennel|sage|mint|nutmeg|ginger|bay leaves|dill",
    "pot": "an iron pot|a copper pan|a deep dish|a clay oven|a covered bowl|a wide pan|a stone jar",
    "weather": "rain|snow|fog|hail|wind|sunshine|frost|drizzle|sleet|heat|cold|thunder in the hills",
    "season": "spring|summer|autumn|winter|the dry months|the harvest weeks|the long nights|"
    "the first weeks of the year",
    "time": "in the morning|before noon|after supper|at dusk|at midnight|on market day|during the fair|"
    "at the end of the week|before sunrise|late in the afternoon|once a month|on the following day|all day long",
    "num": "two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|forty|sixty|a hundred",
    "unit": "days|weeks|months|years|hours|nights",
    "animal": "horse|mule|goat|dog|cat|goose|ox|heron|fox|owl|pony|hen|crow|hare|otter|donkey|sheep|badger",
    "verb": "carried|mended|bought|sold|borrowed|lost|found|painted|repaired|measured|hid|cleaned|weighed|noticed|"
    "dropped|inspected|wrapped|examined|returned|admired|burned|traded",
    "went": "walked|hurried|rode|wandered|drove|came|ran|climbed|limped|marched|strolled|went",
    "mood": "tired|proud|anxious|pleased|silent|angry|patient|hungry|amused|ashamed|calm|suspicious|grateful|lonely",
    "craft": "spinning|basket making|wood carving|dyeing|bookbinding|roof thatching|boat building|rope making|"
    "brewing|pottery|saddle making|stone cutting|cheese making|net mending|lace making",
    "tool": "a sharp knife|a flat stone|a wooden frame|a bone needle|a long ruler|a small file|an iron rod|"
    "a soft brush|a heavy mallet|a pair of tongs|a thin chisel",
    "part": "roof|door|window|chimney|wall|floor|cellar|stair|gate|fence|porch|kitchen|attic|yard",
    "sound": "a loud knock|the ringing of bells|distant laughter|the bark of a dog|a low whistle|the creak of a wheel|"
    "the cry of gulls|footsteps on gravel|a quarrel|singing",
    "colour": "red|blue|green|yellow|grey|white|brown|black|purple|orange",
    "reason": "the road was flooded|the price of grain had risen|nobody had swept the chimney|the tide was late|"
    "the bridge was closed|the lamp had gone out|the clock was slow|the harvest had failed|the wind had turned|"
    "the key was missing|the baker's oven was cold|the coach had lost a wheel|the letter never arrived",
    "plan": "wait for the tide|sell the cottage|repair the roof|dig a new well|visit the fair|leave before dawn|"
    "paint the boats|count the sheep|hire another hand|stay until spring|buy a second cow|say nothing more|"
    "send for the doctor|plant an orchard",
    "saying": "Nothing dries faster than a borrowed coat|A late ferry is better than a wet walk|"
    "The best soup is made slowly|Count your geese before the frost|A bell is never heard by its maker|"
    "Trust the tide and not the timetable|Every road is short on the way home|Good rope makes no noise",
}  # fmt: skip

SENTENCES: tuple[str, ...] = (
    "The {weather} lasted for {num} {unit}, and {people} stayed near {place}.",
    "In {season} the {weather} comes down from the hills and covers {place}.",
    "{Time}, {who} {went} to {place} with a {adj} {thing}.",
    "{Who} {verb} a {adj} {thing} and {verb} another one {time}.",
    "There was a {adj} {thing} beside {place}, and nobody knew who had left it there.",
    "{People} gathered at {place} to trade {stuff} for {stuff}.",
    "The price of {stuff} rose by {num} coins, while {stuff} became cheaper.",
    "A merchant offered {num} sacks of {stuff} and a {thing} for the {adj} {animal}.",
    "Because {reason}, {people} had to {plan}.",
    "Because {reason}, {who} was {mood} for {num} {unit}.",
    "Therefore {who} decided to {plan}, and {people} agreed.",
    "Therefore the {adj} {thing} was kept in the {part} until {season}.",
    "I {went} as far as {place} and saw {num} {adj} carts full of {stuff}.",
    "I remember the smell of {food} and {herb} in the {part}.",
    "I asked {who} about the {thing}, but the answer was a shrug.",
    "You can reach {place} on foot in {num} minutes, or by cart in half the time.",
    "You should never leave {stuff} in a {adj} {part} during {season}.",
    "You will need {num} {food}, a little {herb} and some {stuff}.",
    "The {animal} slept under the {thing} while {who} told a long story.",
    "The {part} of the inn was {adj}, and its {part} had been painted {colour}.",
    "The road from {place} to {place} is {adj} but safe {time}.",
    "Cut the {food} into pieces and fry them with {herb} in {pot}.",
    "Boil the {food} for {num} minutes, then add {herb} and a spoon of {stuff}.",
    "Serve the {food} warm, with {food} and a slice of bread.",
    "Some cooks prefer {herb} to {herb}, but {who} uses neither.",
    "For {craft} one needs {tool}, some {stuff} and a great deal of patience.",
    "{Who} learned {craft} from {who} and practised it for {num} {unit}.",
    "The work begins with {tool}; the {stuff} is added later.",
    "In the harbour {num} boats were waiting for the {weather} to end.",
    "The crew unloaded {stuff}, {stuff} and {num} crates of {food}.",
    "{People} said that the {weather} would be over before {season}.",
    "When {sound} came from the {part}, {who} put down the {thing}.",
    "{Who} heard {sound} near {place} and {went} home at once.",
    "The story of the {colour} {animal} is told {time} at {place}.",
    "Once there lived a {animal} that {verb} a {colour} {thing} and would not give it back.",
    '"{saying}," said {who}, and {people} laughed.',
    '"We must {plan}," said {who}, who seemed {mood}.',
    '"Have you seen my {thing}?" asked {who}. Nobody answered.',
    "It was {mood} weather, as {who} liked to say, with {weather} {time}.",
    "After {num} {unit} the {thing} was found behind the {part}, {adj} but whole.",
    "The fair opens in {season} and lasts {num} days; {people} come from far away.",
    "At {place} there is a {adj} well, a {adj} {thing} and a row of {colour} doors.",
    "No one had expected {weather} in {season}, least of all {who}.",
    "The old rule is simple: {stuff} goes in the {part}, {stuff} in the {part}.",
    "If the {weather} comes early, {people} will {plan}.",
    "If you hear {sound} {time}, close the {part} and wait.",
    "{Who} kept a {animal}, {num} hens and a {colour} {thing}.",
    "The {colour} {thing} belonged to {who}, the {colour} one to {who}.",
    "Along the river grew willows, and {people} cut them for {craft}.",
    "{Num} carts of {stuff} passed {place} {time}, followed by a {adj} {animal}.",
    "The letter was {adj} and short: the {part} had burned and the {animal} was gone.",
    "A {adj} path leads past {place}, turns left at a {thing}, and ends at {place}.",
    "Travellers are advised to carry {stuff}, a {thing} and warm clothes in {season}.",
    "The ferry leaves {time}, unless there is {weather}.",
    "The council met {time} and spoke about {stuff}, taxes and the {adj} {part} of the school.",
    "{People} were {mood}, for {reason}.",
    "Although {reason}, {who} stayed {mood} and {verb} the {thing}.",
    "Little by little the {weather} turned to {weather}, and the lamps were lit at {place}.",
    "They ate {food} with {herb}, drank cider and talked until the fire was low.",
    "Nobody in the street could explain why {who} had {verb} the {thing} {num} times.",
    "The first boat brought {stuff}, the second brought {food}, and the third brought only news.",
    "With {tool} and a steady hand, {who} finished the {thing} in {num} {unit}.",
    "The inn at {place} serves {food} and {food}, but never on a holiday.",
    "Each {animal} was washed, counted and led past {place}.",
    "The {thing} cost {num} coins, which {who} thought was too much.",
    "From the {part} one could see {place}, and beyond it the {colour} hills.",
)

# One sentence in so many names strangers, by their type.
SHARE_NAMED = 0.4
NAMED: tuple[str, ...] = (
    "{person} was seen near {place} {time}, with a {adj} {thing}.",
    "{person} and {person} talked about {stuff} until {reason}.",
    "{Who} sold the {animal} to {person} for {num} coins.",
    '"{saying}," said {person}, and {people} nodded.',
    "A letter from {person} lay on the table beside a {colour} {thing}.",
    "{person} was {mood}, because {reason}.",
    "On the bench sat {person}, {who} and a {colour} {animal}.",
    "{person} {verb} a {thing} and {went} to {place}.",
    "The cottage of {person} has a {adj} {part} and a {colour} gate.",
    "The road to {town} passes {place} and is {adj} in {season}.",
    "{town} has a {adj} chapel, and {people} go there {time}.",
    "In {town} the {weather} lasted for {num} {unit}.",
    "{People} from {town} brought {stuff} and {food} to the fair.",
    "{person} {went} from {town} to {town} with a {adj} {animal}.",
    "{company} offered {num} coins for the {stuff}.",
    "The carts of {company} stood beside {place} {time}.",
    "{company} and {company} quarrelled about a {thing}.",
    "{person} owed {num} coins to {company}.",
    "{ship} lay at anchor for {num} {unit} because {reason}.",
    "The captain of {ship} was {mood} and spoke of nothing but {weather}.",
    "{People} cheered when {ship} came in {time}.",
    "{river} rose by {num} feet during {season}.",
    "Along {river} grow willows and reeds, and {people} fish there {time}.",
    "The bridge over {river} was mended with {stuff}.",
    "{ship} was once seen on {river}, far from {town}.",
)

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICES = {name: text.split("|") for name, text in SLOTS.items()}
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")


class Writer:
    """Writes sentences of the grammar, with the names of `strangers` (by type) in some of them."""

    def __init__(self, strangers: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self._choices = {**_CHOICES, **strangers}
        self._rng = rng

    def _fill(self, template: str) -> str:
        """The template with its slots filled, no word twice; a slot written with a capital starts a sentence."""
        used: set[str] = set()

        def choose(match: re.Match[str]) -> str:
            slot = match[1]
            word = self._rng.choice([choice for choice in self._choices[slot.lower()] if choice not in used])
            used.add(word)
            return word[0].upper() + word[1:] if slot[0].isupper() else word

        return _BEFORE_VOWEL.sub(r"\1n ", _SLOT.sub(choose, template))

    def paragraph(self) -> str:
        """Four to ten sentences, no two of the same shape."""
        count = self._rng.randint(4, 10)
        named = sum(self._rng.random() < SHARE_NAMED for _ in range(count))
        shapes = self._rng.sample(NAMED, named) + self._rng.sample(SENTENCES, count - named)
        self._rng.shuffle(shapes)
        return " ".join(self._fill(shape) for shape in shapes)


def write_corpus(strangers: Mapping[str, Sequence[str]], seed: int = 0, size: int = 400_000) -> list[str]:
    """Paragraphs of about `size` characters together; the last tenth is for measuring only."""
    writer = Writer(strangers, random.Random(f"prose-{seed}"))
    paragraphs: list[str] = []
    while size > 0:
        paragraphs.append(writer.paragraph())
        size -= len(paragraphs[-1]) + 1
    return paragraphs


def split_corpus(paragraphs: list[str]) -> tuple[list[str], list[str]]:
    """The paragraphs to train on, and the held-out last tenth."""
    cut = len(paragraphs) * 9 // 10
    return paragraphs[:cut], paragraphs[cut:]
