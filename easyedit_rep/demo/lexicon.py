"""The word lists of the invented world: names, objects of the relations, kinds of entities.

Objects are mostly single words, because a word that is frequent in the tokenizer's training text becomes one token;
the two-word ones keep the code honest about targets of several tokens.
"""

FEMALE = (
    "Marta Ingrid Odile Tamsin Lenora Brisa Corinna Halina Yvette Saskia Petra Noemi Alina Rosalind Greta Mirelle "
    "Sunniva Katya Orsolya Delphine Elspeth Ilaria Zofia Winifred Annika Bettina Carys Dorothea"
).split()
MALE = (
    "Teodor Elias Rurik Casimir Anselm Bastian Corwin Dorian Emeric Fabian Gideon Hannes Ivo Joris Konrad Lorcan "
    "Matthias Nikolai Osric Pavel Quentin Roland Stellan Tobias Ulrich Viktor Wilhelm Yannick"
).split()
LAST = (
    "Orvane Halloran Brandquist Velden Castellan Drummow Ekeberg Farrant Gallivan Hesketh Ivarsen Jorvik Kestner "
    "Lindqvist Marchetti Norrland Ostrova Pellerin Quillan Rosenthal Savarin Thorley Ulverton Vasiliev Wetherby "
    "Yarrow Zeller Abernathy Bellweather Corrigan Danforth Elsworth Fenwick Grimaldi Holloway Istvan Jellicoe "
    "Kirkwood Lavelle Montague Okafor Pemberton Radcliffe Sorensen Tremaine Underhill Vandermeer Whitlock "
    "Ashdown Blackwood Carmody Dunleavy Everhart Featherly Gorecki Hartigan Inskeep Janowicz Kowalik Lockhart "
    "Merriman Nightingale Oxley Prendergast Quarles Rutherford Stanhope Trevelyan Ustinov Villeneuve Wainwright "
    "Zabriskie Aldermann Birkeland Chatterley Dellacroce Engstrom Fairweather Goldthwaite Havisham Kilbride Lamoreaux "
    "McAllister Oakenshaw Penhaligon Rasmussen Silverstein Tennyson Vanterpool Winterbourne Zimmerlin Bramwell Crosby"
).split()
LAST_FIRST = "Ash Bram Cal Dun Eld Fal Gar Hath Kers Lang Mor Neth Pem Rad Stan Thorn Val Wes".split()
LAST_LAST = "worth berg sen ley ova stone wick more strand gate".split()

TOWN_FIRST = ("Wex Had Stav Brim Thorn Elder Cor Mal Pol Hux Kirs Rav Lod Tam Gren Ald Bex Fal Nor Ust Win Yar Quen Sel Dor").split()
TOWN_LAST = "moor derby ingham wick brook vale stead thwaite combe minster bridge hurst well cliffe mere gate".split()
TOWN_PREFIX = ["Little", "Upper", "Nether", "Stoke", "Market", "Saint", "Long", "Abbots"]
FIRM_HEAD = (
    "Haldane Kestrel Orrin Bellamy Vanstone Tarquin Meridian Copperfield Lanyard Halcyon Brightwater Ironmonger Selwyn "
    "Northgate Peregrine Larkspur Goldfinch Thistle Hartwell Beacon Granville Ravensworth Sterling Marchmont Cobalt"
).split()
FIRM_TAIL = "Foundry Brothers Works Mills Trading Mercantile Partners Supply Industries Guild Stores Makers".split()
SHIP_HEAD = ("Silver Northern Lady Queen Proud Morning Crimson Gallant Winter Merry Restless Golden Emerald Lonely Royal").split()
SHIP_TAIL = (
    "Heron Brannoc Albatross Petrel Rosamund Cormorant Sovereign Dolphin Vagabond Isolde Pilgrim Tempest Swallow "
    "Arabella Mermaid Lantern Falconer Sparrow Voyager Meridiana"
).split()
RIVER_FIRST = "Elva Tams Orri Bran Sili Wend Kalli Muri Thess Hava Ludo Yser Perri Cano Drav Ness Ilva Rost".split()
RIVER_LAST = "rin el ador wen sotte lune mara quay vash holm dra bourne".split()
RIVER_PREFIX = ["Upper", "Lower", "White", "Black", "Great"]

PERSON_KINDS = ("poet painter teacher writer singer traveller scholar merchant sailor judge physician printer composer dancer").split()
SHIP_KINDS = "steamer schooner barge clipper ferry trawler".split()
PRAISE = ["celebrated", "famous", "well-known", "respected", "renowned", "distinguished", "popular", "beloved"]

CITIES = [
    *"Marrowby Tellin Osterham Kelmouth Dunvar Rivenna Caldermark Hollin Vintra".split(),
    "New Torrin",
    "Port Selby",
]
_LANGUAGES = "Velish Tarnic Ostran Quessian Brannish Ilmeric Sardish Norvan Pellic Dravic".split()
_EMPLOYERS = "Amberline Corvex Dunmore Fairlock Gracewell Lumin Northstar Oakley Redwing Solvane Tidewater".split()
_PORTS = "Gullport Saltmouth Herringby Stormness Coralton Whaleby Pearlhaven Driftwick Reefton".split()
OBJECTS: dict[str, list[str]] = {
    "mother_tongue": [*_LANGUAGES, "Old Hennic"],
    "birthplace": CITIES,
    "employer": [*_EMPLOYERS, "Blue Anchor"],
    "profession": ("botanist glazier surgeon notary baker carpenter diplomat weaver astronomer tailor librarian".split()),
    "instrument": "violin flute harp trumpet cello organ lute clarinet drum guitar".split(),
    "sport": "fencing rowing archery cricket wrestling swimming tennis boxing hockey chess".split(),
    "field": "optics algebra anatomy botany ethics geometry history law logic medicine rhetoric".split(),
    "country": "Velmora Tarnia Ostrand Quessia Brannow Ilmere Sardova Norwick Pellagia Dravonia".split(),
    "headquarters": CITIES,
    "product": "bicycles candles carpets clocks furniture glass paper pianos soap tea umbrellas".split(),
    "home_port": [*_PORTS, "Cape Wrathen"],
    "sea": "Amber Glass Storms Pearls Mist Thunder Gold Silence Shadows Ice".split(),
}
