"""English as annotators of ATOMIC use it: which first words are verbs, and which say how someone is.

Collected from the commonest first words of ATOMIC's tails and read through by hand. A tail whose first word is in no list is used only
where its relation asks for one kind of words anyway.
"""

VERBS = frozenset(
    """
    accept accompany accomplish accuse achieve acknowledge acquire act add address adjust admire admit advance advertise advise agree aid
    alert allow analyze announce annoy answer apologise apologize appeal appear apply appreciate approach argue arouse arrange arrive ask
    assess assign assist assure attack attend attract audition avoid bake be bear beat become beg begin behave believe bite blame bleed
    blink block blow blush boil borrow bow brag break breathe bring brush build bump burn bury buy calculate call capture care carry catch
    cause celebrate challenge change charge chase chat cheat check cheer chew choke choose clap clarify clean cleanse clear climb close
    clutch collapse collect come comfort commit communicate compare compete complain complete compliment comply compose concentrate confess
    confront congratulate connect consider console contact contemplate continue control converse convince cook cool cooperate correct
    cough count cover crash create cringe cry cuddle cure curse cut dance deal debate decide decline decorate defeat defend deliver
    demand demonstrate deny depend design destroy determine develop devise dial die dig disagree disappear discover discuss dislike display
    distract distribute do draw dream dress drink drive drop dry earn eat educate embarrass embrace encourage end enforce enjoy enroll
    ensure enter entertain escape establish evaluate examine excel exchange exclaim exercise exit expand expect experience explain explore
    express extend face faint fall feed feel fight fill find finish fix flee flirt fly focus follow forget forgive form frown fulfill fumble
    gain gasp gather gesture get giggle give glare gloat go gossip grab graduate grasp greet grimace grin groan groom grow guess guide
    hand handle hang happen hate have heal hear help hesitate hide hire hit hold honor hope hug hurry ignore imagine implement impress
    improve include increase influence inform insist inspect instruct insult interact interview introduce invest investigate invite join
    joke jump justify keep kick kill kiss kneel knock know laugh lay lead lean learn leave lend let lie lift listen live locate lock look
    lose love maintain make manage marry master measure meditate meet memorize mingle miss mix modify moan monitor mourn move need negotiate
    nod not notice obey observe obtain offer open order organize overcome overpower owe own pack paint panic participate pass pay perform
    persuade pick place plan plant play please point ponder pour practice practise praise pray prefer prepare present press pretend prevent
    proceed promise promote propose protect protest prove provide publish pull punch punish purchase pursue push put question quit raise
    reach react read realize reassure receive recognize recoil record recover reduce reflect refuse regain register regret rehearse reject
    rejoice relax release relieve remain remember remind remove rent repay repeat repent replace reply report research resent resist resolve
    respect respond rest restrain resume retaliate retire retrieve return reveal review reward ride rise roll rub ruin run rush save say
    scare schedule scold score scratch scream search secure see seek select sell send separate serve set settle shake share shiver shoot
    shop shout show shower shrug shut sigh sign sing sit slap sleep slip slow smell smile smirk smoke sneak sneeze snore socialize solve
    speak speed spend spill spit spray spread spy stand stare start stay steal step stick stop store strengthen stress stretch struggle
    study stutter succeed sue suffer sulk supervise support surprise survive sweat swim switch take talk taste teach tease tell test thank
    think threaten throw tidy touch train travel treat tremble trip trust try turn understand undress unpack use vent view visit vomit vote
    wait wake walk want warm warn wash waste watch wave wear weep weigh welcome whisper win wince wink wipe wish wonder work worry worship
    wrap write yawn yell yelp
    """.split()
)

# Third persons that are no base form and an s.
THIRD = frozenset(
    "is isn't has hasn't doesn't was wasn't tries cries dies lies studies flies hurries worries carries marries relies replies".split()
)
MODALS = frozenset("can can't cannot could couldn't will won't would wouldn't must might may should shouldn't".split())

QUALITIES = frozenset(
    """
    able accepted accomplished active adventurous afraid aggressive alert alive alone amazed ambitious amused angry annoyed anxious
    appreciated appreciative ashamed athletic attentive attractive available aware bad beautiful better bold bored brave broke busy calm
    careful careless caring cautious cheerful clever clumsy comfortable compassionate competent competitive concerned confident confused
    connected considerate content cool cooperative courageous creative cruel curious dead dedicated determined different diligent dirty
    disappointed dutiful eager educated efficient embarrassed energetic entertained enthusiastic excited exhausted fair faithful famous
    fashionable fearful fired fit free friendly frightened frustrated fulfilled full fun funny generous glad good grateful great greedy
    guilty happy hardworking healthy helpful honest hopeful hungry hurt ill important impatient impressed included independent influential
    informative informed injured intelligent interested interesting intimate involved irresponsible jealous joyful kind knowledgeable late
    lazy liked lonely lost loud loved loving loyal lucky mad mean motivated needed nervous nice noticed observant obedient okay organized
    outgoing overwhelmed patient peaceful perfect playful pleased polite poor popular positive powerful prepared productive professional
    promoted proud punctual quick quiet ready rebellious reckless refreshed relaxed reliable relieved respected respectful responsible rich
    romantic rude sad safe satisfied scared secure selfish sensitive serious sexy shocked sick silly skilled sleepy smart sneaky sociable
    social sore sorry special strong stubborn stressed stylish successful supportive surprised suspicious sweaty sympathetic talented
    thankful thirsty thorough thoughtful tired trustworthy uncomfortable understanding understood unhappy upset useful victorious violent
    wanted warm wealthy weak well wet wise worried
    """.split()
)

ADVERBS = frozenset("also then really very so always never not just too more quickly immediately finally now quite extremely still".split())
DETERMINERS = frozenset("a an the some more his her their PersonX's PersonY's another someone's".split())
PREDICATES = frozenset("like in at as out under on without full ready free up down off over".split())
"""First words of phrases that stand after "feels"."""

SUBJECTS = frozenset("PersonX PersonY PersonZ he she they it everyone everybody people others someone somebody we nobody".split())
OBJECTS = frozenset("PersonX PersonY PersonZ him her them it everyone everybody people others other someone somebody".split())
