import asyncio
import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trunkline_ai.engines.base import Context, SpeakerRole, Transcript, Turn
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel, Sentiment
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.engine import LocalEngine

from tools.eval import DATA, transcript_of

ENGINE = LocalEngine()
AGENT, CALLER, UNKNOWN = SpeakerRole.AGENT, SpeakerRole.CUSTOMER, SpeakerRole.UNKNOWN


def analyze(*turns, **context):
    return ENGINE.analyze_now(Transcript(tuple(Turn(role, text) for role, text in turns)), Context(**context))


def caller(text, **context):
    return analyze((CALLER, text), **context)


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("our basement is flooding please send a plumber right now", Intent.EMERGENCY_SERVICE),
        ("How much would it cost to paint two bedrooms?", Intent.QUOTE_REQUEST),
        ("id like to make an appointment for a cleaning", Intent.APPOINTMENT),
        ("The thermostat you installed last month is not turning on.", Intent.SUPPORT),
        ("i have a question about a charge on my bill", Intent.BILLING),
        ("Your crew was rude and did a terrible job, I want to talk to a manager.", Intent.COMPLAINT),
        ("please cancel my membership", Intent.CANCEL),
        ("are you open on sundays", Intent.INFORMATION),
        ("are you guys hiring i sent in my resume", Intent.EMPLOYMENT),
        ("is the owner in we help roofers get more leads from google", Intent.SALES_PITCH),
        ("your car warranty is about to expire press one now", Intent.ROBOCALL),
        ("oh sorry i have the wrong number", Intent.WRONG_NUMBER),
    ],
)
def test_each_intent_is_told_from_one_turn(text, intent):
    assert caller(text).intent is intent


@pytest.mark.parametrize(
    "text",
    [
        "Sure, we will call",
        "We had to cancel your appointment on Tuesday, sorry!",
        "50% off all gutters this week only, click here to claim your free gift",
        "We are hiring! Send your resume.",
        "This is an emergency notice: the water is off until noon",
    ],
)
def test_a_message_of_the_business_is_not_what_the_customer_wants(text):
    result = analyze((AGENT, text), message=True)
    assert (result.intent, result.spam, result.sentiment) == (Intent.OTHER, False, Sentiment.NEUTRAL)
    assert (result.lead_level, result.urgency, result.action_items) == (LeadLevel.NONE, 0, ())
    assert text[:10] in result.summary


def test_the_same_words_with_and_without_punctuation_give_the_same_labels():
    spoken = "Hi, I'm looking for an estimate. My roof's leaking, and I don't know what it'd cost!"
    heard = "hi im looking for an estimate my roofs leaking and i dont know what itd cost"
    one, other = caller(spoken), caller(heard)
    assert (one.intent, one.lead_level, one.spam) == (other.intent, other.lead_level, other.spam)


def test_spam_is_no_lead_and_asks_for_nothing():
    result = caller("press one to speak to a representative about your student loan")
    assert result.spam
    assert result.spam_score >= 0.5
    assert (result.lead_level, result.lead_score, result.action_items) == (LeadLevel.NONE, 0, ())


@pytest.mark.parametrize("turns", [(), ((AGENT, "Ace Plumbing, hello? Hello?"),), ((CALLER, "hello"),)])
def test_silence_is_no_conversation(turns):
    result = analyze(*turns)
    assert result.intent is Intent.NO_CONVERSATION
    assert result.lead_level is LeadLevel.NONE


@pytest.mark.parametrize(
    ("turns", "context", "summary"),
    [
        ((), {}, "Nobody spoke."),
        (((CALLER, "  "),), {}, "Nobody spoke."),
        (((AGENT, "Ace Plumbing, hello? Hello?"),), {}, "Only the business spoke."),
        (((CALLER, "hello"),), {}, "Nothing was said beyond a greeting, or not to the business."),
        (((CALLER, "hi"),), {"message": True}, "The message says nothing beyond a greeting."),
    ],
)
def test_silence_is_told_as_it_was(turns, context, summary):
    assert analyze(*turns, **context).summary == summary


@pytest.mark.parametrize(
    ("word", "intent"),
    [
        ("emergency", Intent.EMERGENCY_SERVICE),
        ("Fire!", Intent.EMERGENCY_SERVICE),
        ("911", Intent.EMERGENCY_SERVICE),
        ("quote", Intent.QUOTE_REQUEST),
        ("cancel", Intent.CANCEL),
        ("STOP", Intent.CANCEL),
        ("unsubscribe", Intent.OTHER),
        ("help", Intent.OTHER),
    ],
)
def test_one_word_is_a_conversation(word, intent):
    for message in (True, False):
        result = caller(word, message=message)
        assert (result.intent, result.unreliable) == (intent, "")
        assert word[:3] in result.summary.lower() + result.summary


def test_voices_that_are_not_told_apart_are_a_conversation():
    said = (
        "Hi, thanks for calling Ace Plumbing, how can I help you? Yes, I have a leak in my kitchen. OK, we can come "
        "at three. That works. My name is Dan. Great."
    )
    for text in (said, said.lower().replace(",", "").replace(".", "").replace("?", "")):
        result = analyze((UNKNOWN, text))
        assert result.intent is not Intent.NO_CONVERSATION
        assert "leak in my kitchen" in result.summary


@pytest.mark.parametrize(
    ("text", "context", "reason"),
    [
        ("hola necesito un plomero tengo una fuga de agua en la cocina", {}, "language_not_analysed"),
        ("¿Cuánto cuesta? Necesito un plomero, por favor.", {"language": "en-US"}, "language_not_analysed"),
        ("Je voudrais un devis, demain à 10 h.", {"language": "fr-CA"}, "language_not_analysed"),
        ("Hola.", {"language": "es"}, "language_not_analysed"),
        ("我想要一个报价。", {"language": "zh"}, "language_not_analysed"),
        ("Мне нужен сантехник, сколько это стоит?", {}, "language_not_analysed"),
        ("the uh of it was and in the on of the a to so", {}, "not_understood"),
        ("when a no see us a quote for the plumber", {"unreliable": "low_confidence"}, "low_confidence"),
        ("Quiero un precio.", {"language": "es", "unreliable": "low_confidence"}, "low_confidence"),
        ("a quote please today", {"unreliable": "language_not_supported"}, "language_not_supported"),
    ],
)
def test_what_cannot_be_relied_on_says_why_and_is_not_guessed(text, context, reason):
    result = caller(text, **context)
    assert result.unreliable == reason
    assert result.intent is Intent.OTHER
    assert (result.entities, result.topics, result.urgency) == ((), (), 0)
    assert (result.sentiment, result.sentiment_score) == (Sentiment.NEUTRAL, 0.0)
    assert (result.lead_level, result.lead_score) == (LeadLevel.NONE, 0)
    assert result.action_items == ("Have a person listen to the recording",)


@pytest.mark.parametrize(
    "said",
    [
        "Guten Tag, meine Heizung ist kaputt, bitte rufen Sie mich an",
        "Bonjour, je voudrais un devis pour refaire la toiture de ma maison s'il vous plait",
        "Bom dia, quanto custa trocar o aquecedor da minha casa? Preciso com urgência.",
        "Buongiorno, vorrei un preventivo per il bagno, la casa è allagata",
        "Dzień dobry, chciałbym złożyć reklamację na usługę hydraulika",
        "Xin chào, tôi cần sửa ống nước, nhà tôi bị ngập",
        "Emergency po baha na po sa bahay namin paki tawagan ninyo kami",
        "Wat kost een nieuwe ketel in een huis van honderd meter, we had een offerte",
        "Hej, vi behöver en rörmokare, det läcker vatten i köket och vi vill ha hjälp idag",
        "Hei, vi har vann i kjelleren og må ha hjelp så fort som mulig i dag",
        "Merhaba, evimi su bastı, hemen bir tesisatçı gönderebilir misiniz",
        "Selamat pagi, saya mau tanya berapa harga perbaikan pipa air di rumah",
        "Bună ziua, aș dori o ofertă pentru acoperișul casei mele",
        "Bonjou, mwen bezwen yon plonbye, kay mwen an plen dlo",
        "Salaan, waxaan u baahanahay tuubiiste, guriga waa biyo buuxay",
    ],
)
@pytest.mark.parametrize("tag", ["", "en-US"])
def test_another_language_is_told_by_its_words(said, tag):
    result = caller(said, language=tag)
    assert (result.unreliable, result.lead_score) == ("language_not_analysed", 0)
    assert "in another language than English" in result.summary


@pytest.mark.parametrize(
    "said",
    [
        "Roof leak repair estimate 12 Oak Street Dan Miller 312 555 0199",
        "Emergency plumber burst pipe basement flooding",
        "Furnace broken no heat Cedar Lane Brightwater",
        "Priya Raghunathan, Kowalczyk residence, sump pump dead, call asap",
        "Hola, my water heater is broken, necesito help today please, can you come?",
    ],
)
def test_few_plain_words_of_english_are_enough(said):
    assert caller(said).unreliable == ""


def test_no_english_transcript_is_taken_for_another_language():
    for file in sorted(DATA.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            assert Conversation.of(transcript_of(json.loads(line)["text"])).foreign in ("", "es"), line


@pytest.mark.parametrize("language", ["", "en", "en-GB", "EN_us", "und"])
def test_english_is_analysed_whatever_its_tag(language):
    result = caller("I need a quote for a new roof. How much is it?", language=language)
    assert (result.unreliable, result.intent) == ("", Intent.QUOTE_REQUEST)


@pytest.mark.parametrize(
    ("language", "message", "summary"),
    [
        ("es-US", False, "The call is in Spanish and was not analysed."),
        ("zh", False, "The call is in Chinese and was not analysed."),
        ("pt-BR", True, "The message is in Portuguese and was not analysed."),
        ("mi", False, "The call is in the language mi and was not analysed."),
    ],
)
def test_the_summary_names_a_language_that_is_not_analysed(language, message, summary):
    assert caller("qwertz", language=language, message=message).summary == summary


def test_a_text_in_another_script_is_not_silence():
    assert caller("Мне нужен сантехник").summary == (
        "The call is in another language than English and was not analysed."
    )


def test_nobody_speaks_no_language():
    result = analyze(language="es-US")
    assert (result.intent, result.unreliable) == (Intent.NO_CONVERSATION, "")


def test_an_answering_machine_makes_a_message_a_voicemail():
    said = (CALLER, "Hi, this is John Miller, please call me back at 312-555-0199.")
    greeted = analyze((AGENT, "You've reached Ace. Please leave a message after the tone."), said)
    told = analyze(said, voicemail=True)
    assert greeted.intent is told.intent is Intent.VOICEMAIL
    assert any("312-555-0199" in item for item in greeted.action_items)


def test_a_robocall_on_the_answering_machine_stays_spam():
    result = analyze(
        (AGENT, "Please leave a message after the tone."),
        (CALLER, "This is your final notice about your car's extended warranty, press one now."),
    )
    assert result.spam


def test_sentiment_is_the_customers_not_the_agents():
    upset_agent = analyze(
        (AGENT, "I am so sorry, that is terrible, how awful, the worst."),
        (CALLER, "i would like to schedule an oil change for tuesday"),
    )
    assert upset_agent.sentiment is Sentiment.NEUTRAL
    happy = caller(
        "thank you so much that is wonderful you have been so helpful i would like to book a cleaning"
    )
    assert happy.sentiment is Sentiment.POSITIVE


@pytest.mark.parametrize(
    ("turns", "level"),
    [
        ([(CALLER, "a pipe burst and water is everywhere")], LeadLevel.HIGH),
        ([(CALLER, "how much is a brake job")], LeadLevel.MEDIUM),
        (
            [
                (CALLER, "can i get an estimate for a fence"),
                (AGENT, "we can come out monday at nine"),
                (CALLER, "monday at nine works"),
            ],
            LeadLevel.HIGH,
        ),
        ([(CALLER, "i need to reschedule my appointment to another day")], LeadLevel.LOW),
        ([(CALLER, "what are your hours on saturday")], LeadLevel.LOW),
        ([(CALLER, "you overcharged me on my last invoice")], LeadLevel.NONE),
    ],
)
def test_a_lead_is_worth_what_it_promises(turns, level):
    assert analyze(*turns).lead_level is level


def test_the_reasons_make_the_score():
    result = caller("how much is a new water heater my name is david and im at 25 oak street")
    points = sum(int(reason.rpartition(": ")[2]) for reason in result.lead_reasons)
    assert result.lead_score == points
    assert "gives an address: +15" in result.lead_reasons


@pytest.mark.parametrize(
    ("text", "kind", "said", "value"),
    [
        ("call me at (312) 555-0199 please", EntityType.PHONE_NUMBER, "(312) 555-0199", "+13125550199"),
        (
            "its five five five, oh one five eight",
            EntityType.PHONE_NUMBER,
            "five five five, oh one five eight",
            "5550158",
        ),
        ("the invoice says $1,250.50 today", EntityType.AMOUNT, "$1,250.50", "1250.50"),
        (
            "it was three hundred and fifty dollars",
            EntityType.AMOUNT,
            "three hundred and fifty dollars",
            "350.00",
        ),
        ("can you come Tuesday at 10:30 am", EntityType.TIME, "Tuesday at 10:30 am", "10:30"),
        ("at nine fifteen pm then", EntityType.TIME, "at nine fifteen pm", "21:15"),
        ("Friday at 9 o'clock is fine.", EntityType.TIME, "Friday at 9 o'clock", "09:00"),
        ("Friday at 9 o’clock is fine.", EntityType.TIME, "Friday at 9 o’clock", "09:00"),
        ("Can you come at 10 p.m. or later?", EntityType.TIME, "at 10 p.m.", "22:00"),
        ("Thursday morning at 10.", EntityType.TIME, "Thursday morning at 10", "10:00"),
        ("You open at 8 in the morning?", EntityType.TIME, "at 8 in the morning", "08:00"),
        ("Come by 4 in the afternoon.", EntityType.TIME, "by 4 in the afternoon", "16:00"),
        ("It was on June 10.", EntityType.TIME, "June 10", ""),
        ("It's between $2,000 and $3,000.", EntityType.AMOUNT, "$2,000", "2000.00"),
        ("There's a 40 dollar fee.", EntityType.AMOUNT, "40 dollar", "40.00"),
        ("My number is 555-0158.", EntityType.PHONE_NUMBER, "555-0158", "5550158"),
        ("My number is 555 0158.", EntityType.PHONE_NUMBER, "555 0158", "5550158"),
        ("The address is 25 Main Street.", EntityType.ADDRESS, "25 Main Street", "25 Main Street"),
        ("It's 25, Main Street.", EntityType.ADDRESS, "25, Main Street", "25, Main Street"),
        ("I’m at 12 St. James Road.", EntityType.ADDRESS, "12 St. James Road", "12 St. James Road"),
        ("It's 7 O’Neil Lane.", EntityType.ADDRESS, "7 O’Neil Lane", "7 O'Neil Lane"),
        ("My name’s Mary Johnson.", EntityType.PERSON, "Mary Johnson", "Mary Johnson"),
        ("Hello, this is Dr. Lee.", EntityType.PERSON, "Lee", "Lee"),
        ("My name is Sarah regarding a roof.", EntityType.PERSON, "Sarah", "Sarah"),
        ("Write to john at gmail.com.", EntityType.EMAIL, "john at gmail.com", "john@gmail.com"),
        ("i live at 1420 Elm Street in town", EntityType.ADDRESS, "1420 Elm Street", "1420 Elm Street"),
        (
            "the address is twenty five main street",
            EntityType.ADDRESS,
            "twenty five main street",
            "twenty five main street",
        ),
        ("my name is laura jensen", EntityType.PERSON, "laura jensen", "Laura Jensen"),
        ("Hi, this is Robert Wilson calling", EntityType.PERSON, "Robert Wilson", "Robert Wilson"),
        (
            "send it to jo.doe@example.com thanks",
            EntityType.EMAIL,
            "jo.doe@example.com",
            "jo.doe@example.com",
        ),
    ],
)
def test_what_is_named_is_found_with_its_normal_form(text, kind, said, value):
    result = caller(f"i would like a quote {text}")
    found = [(one.text, one.value) for one in result.entities if one.type is kind]
    assert (said, value) in found


@pytest.mark.parametrize(
    "text",
    [
        "The heater is 15 years old, in the same place for 10 years.",
        "It's a 15 minute drive down the road.",
        "I'm at 10 percent of the way.",
        "I have 3 kids on my street.",
        "I want a 2 story house at your place.",
    ],
)
def test_what_is_counted_is_no_address(text):
    assert EntityType.ADDRESS not in {entity.type for entity in caller(f"A quote please. {text}").entities}


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("i would like a quote for two bathrooms", "I’d like a quote for 2 bathrooms."),
        ("can you come tuesday at ten move my ten o'clock", "Can you come Tuesday at 10? Move my 10 o’clock."),
        ("i was charged three hundred dollars twice", "I was charged $300 twice."),
        ("i cannot pay ninety nine dollars it's too expensive", "I can’t pay $99. It’s too expensive!"),
        ("we're at twenty five main street and we've got no heat", "We’re at 25 Main Street, and we’ve got no heat."),
        ("he'll be there at nine thirty he's interested in a job", "He’ll be there at 9:30. He’s interested in a job."),
        ("press six now about your car's warranty", "Press 6 now, about your car’s warranty."),
    ],
)  # fmt: skip
def test_the_same_words_as_they_are_spoken_and_as_they_are_written_give_the_same_labels(spoken, written):
    one, other = caller(spoken), caller(written)
    assert (one.intent, one.lead_level, one.lead_score, one.spam, one.urgency, one.sentiment) == (
        other.intent, other.lead_level, other.lead_score, other.spam, other.urgency, other.sentiment,
    )  # fmt: skip


def test_what_was_promised_is_found_with_either_apostrophe():
    for said in ("I'll send someone at 9.", "I’ll send someone at 9."):
        result = analyze((CALLER, "My roof leaks, I need a quote."), (AGENT, said))
        assert f"Promised: {said}" in result.action_items


def test_offsets_count_in_the_whole_text():
    transcript = Transcript(
        (
            Turn(AGENT, "Ace Plumbing, this is Susan. We’ll come at 9 o’clock."),
            Turn(
                CALLER,
                "I need a quote. My name’s David Miller, 25 Oak Street, call 312-555-0199 on Tuesday.",
            ),
        )
    )
    result = ENGINE.analyze_now(transcript, Context())
    assert len(result.entities) >= 4
    for entity in result.entities:
        assert transcript.text[entity.start : entity.end] == entity.text


def test_the_summary_is_verbatim_and_short():
    said = "I want a new shower. My name is Mary. The bathroom is small and old. How much would a new floor cost?"
    summary = caller(said).summary
    assert len(summary) <= 400
    assert all(sentence in said for sentence in summary.split(". ")[0:1])


def test_unknown_speakers_are_read_as_both():
    result = analyze(
        (UNKNOWN, "thank you for calling ace plumbing"),
        (UNKNOWN, "hi i would like to get a quote for a new water heater how much would it cost"),
    )
    assert result.intent is Intent.QUOTE_REQUEST


@given(
    st.lists(st.tuples(st.sampled_from(list(SpeakerRole)), st.text(max_size=200)), max_size=8), st.booleans()
)
def test_any_text_gets_an_answer_within_its_ranges(turns, voicemail):
    result = analyze(*turns, voicemail=voicemail)
    assert 0.0 <= result.intent_confidence <= 1.0
    assert 0.0 <= result.spam_score <= 1.0
    assert -1.0 <= result.sentiment_score <= 1.0
    assert 0 <= result.lead_score <= 100
    assert 0 <= result.urgency <= 3
    assert result.spam == (result.spam_score >= 0.5)


@pytest.mark.alone
async def test_a_long_call_does_not_hold_up_the_event_loop():
    turn = "so the water heater is leaking again and i called on tuesday about the invoice for two hundred dollars "
    transcript = Transcript(tuple(Turn(CALLER if n % 2 else AGENT, turn * 5) for n in range(120)))
    done = asyncio.create_task(ENGINE.analyze(transcript, Context()))
    longest, last = 0.0, time.perf_counter()
    while not done.done():
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert done.result().intent in Intent
    assert longest < 0.5


@pytest.mark.parametrize("unit", ["1,", "1/", "1 ", "a.a@", "a dot ", "one ", "next monday "])
def test_no_text_that_is_sent_costs_more_than_its_length(unit):
    """16,000 characters of `1,` once took two seconds, in which nothing else of the process ran."""
    for most, length in ((0.8, 16_000), (6.0, 400_000)):
        began = time.thread_time()
        caller(unit * (length // len(unit)), message=True)
        assert time.thread_time() - began < most


def test_a_number_of_many_words_and_one_without_a_unit_are_told_apart():
    told = caller("it was sixteen dollars, then seventy five of them, then $1,250.50 at 123 N. Main Street")
    assert [(e.type, e.text) for e in told.entities] == [
        (EntityType.AMOUNT, "sixteen dollars"),
        (EntityType.AMOUNT, "$1,250.50"),
        (EntityType.ADDRESS, "123 N. Main Street"),
    ]


async def test_many_analyses_at_once_share_two_threads():
    said = transcript_of("C: my basement floods")
    before = {thread.ident for thread in threading.enumerate()}
    async with LocalEngine() as engine:
        made = await asyncio.gather(*[engine.analyze(said, Context(language="en")) for _ in range(40)])
        began = [thread for thread in threading.enumerate() if thread.ident not in before]
    assert {one.intent for one in made} == {Intent.EMERGENCY_SERVICE}
    assert 1 <= len(began) <= 2
