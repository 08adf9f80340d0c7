"""The sample calls as data: who says what, in which voice, on which line, and what a listener concludes.

The first sixteen are worded simply, for a recogniser of few words. The last four are worded as people talk, in
other voices, with noise on the line.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One sample call; `lines` are (speaker, text): A the agent, C the customer, numbers written as words."""

    id: str
    provider: str
    container: str  # wav | wav-mulaw | flac | opus | mp3
    channels: int  # 1 mixed, 2 agent left and customer right
    expected: dict[str, object]
    customer_name: str
    customer_phone: str
    lines: tuple[tuple[str, str], ...]
    agent: str = "slt"
    customer: str = "rms"
    language: str = "en"
    silence_s: float = 0.0  # length of a call in which nobody speaks
    tone_after: int = -1  # number of the line that an answering machine ends with its beep
    mix_of: str = ""  # a mono mix of that scenario instead of new speech
    interrupts: tuple[int, ...] = ()  # numbers of the lines that begin before the line before them has ended
    noise: str = ""  # a kind of noise, by its name in tools/samples/sounds.py
    noise_db: float = 0.0  # how far it lies below the speech, both as they are before the telephone
    agent_language: str = ""  # where the agent does not speak the customer's


def labels(spam: int, sentiment: str, intent: str, lead: str, **more: object) -> dict[str, object]:
    """What a listener concludes, in the words of the analysis service's labels."""
    return {"spam": spam, "sentiment": sentiment, "intent": intent, "lead": lead, **more}


WATER_HEATER = (
    ("A", "Thank you for calling River City Plumbing. This is Susan. How can I help you today?"),
    (
        "C",
        "Hi, my name is David Miller. Our water heater is very old, and I would like to get a quote "
        "for a new one.",
    ),
    ("A", "I can help you with that. What kind of water heater do you have now?"),
    ("C", "It is a gas water heater, about fifteen years old. It is in the basement."),
    ("A", "How many people live in the house?"),
    ("C", "There are five people in our house. How much would it cost to replace it?"),
    ("A", "The price is between two thousand and three thousand dollars. We can give you a free estimate."),
    (
        "C",
        "That sounds good. Can someone come and look at it this week? I would like to "
        "have it done before "
        "the end of the month.",
    ),
    ("A", "We can send someone on Thursday morning at ten."),
    ("C", "Thursday morning at ten is perfect. Thank you very much for your help."),
    ("A", "You are welcome, David. We will see you on Thursday. Goodbye."),
)

SCENARIOS = (
    Scenario(
        "plumbing-emergency",
        "callrail",
        "opus",
        2,
        labels(0, "negative", "emergency_service", "high"),
        "John Carter",
        "+13035550142",
        (
            ("A", "River City Plumbing, this is Susan. How can I help you?"),
            ("C", "This is an emergency. A pipe burst in my basement and there is water everywhere."),
            ("A", "I am sorry to hear that. Can you turn off the water?"),
            (
                "C",
                "I tried, but I cannot turn it off. The water is still coming in. I need a "
                "plumber right now.",
            ),
            ("A", "Okay. What is your address?"),
            (
                "C",
                "My name is John Carter. The address is twenty five Main Street. Please send "
                "someone right away.",
            ),
            ("A", "We will send a plumber right now."),
            ("C", "Please hurry, this is an emergency. The basement is flooding."),
        ),
        agent="kal16",
    ),
    Scenario(
        "quote-request",
        "callrail",
        "mp3",
        2,
        labels(0, "positive", "quote_request", "high"),
        "Mary Johnson",
        "+13035550117",
        (
            ("A", "Good morning, this is Michael. How can I help you?"),
            ("C", "Good morning. My name is Mary Johnson. I would like to get a quote for a new bathroom."),
            ("A", "Of course. How big is the bathroom?"),
            (
                "C",
                "It is a small bathroom. I would like a new shower and a new sink. How much would that cost?",
            ),
            ("A", "We can come to your house and give you a free estimate."),
            (
                "C",
                "That would be great. I am at home on Monday afternoon. Thank you so much, you "
                "have been very "
                "helpful.",
            ),
        ),
        agent="kal16",
    ),
    Scenario(
        "appointment-change",
        "callrail",
        "mp3",
        1,
        labels(0, "neutral", "appointment", "low"),
        "Robert Wilson",
        "+13035550125",
        (
            ("A", "Thank you for calling. How can I help you?"),
            (
                "C",
                "Hello, this is Robert Wilson. I have an appointment on Tuesday at two o'clock, "
                "and I need to "
                "change the appointment to another day.",
            ),
            ("A", "What day would be better for you?"),
            ("C", "Can I come in on Friday morning?"),
            ("A", "We can see you on Friday at nine o'clock."),
            ("C", "Friday at nine o'clock is fine. Thank you. Goodbye."),
        ),
    ),
    Scenario(
        "angry-customer",
        "twilio",
        "mp3",
        2,
        labels(0, "negative", "complaint", "none"),
        "James Anderson",
        "+12065550133",
        (
            ("A", "Customer service, how may I help you?"),
            (
                "C",
                "I am very unhappy with your work. Your people were here last week, and they did "
                "a terrible job.",
            ),
            ("A", "I am very sorry. What happened?"),
            (
                "C",
                "The kitchen sink is still broken, and now there is a hole in the wall. This is "
                "the worst service "
                "I have ever had.",
            ),
            ("A", "I understand. I will talk to the manager."),
            ("C", "I want to make a complaint, and I want my money back. This is not acceptable."),
        ),
        agent="kal16",
    ),
    Scenario(
        "wrong-number",
        "callrail",
        "wav-mulaw",
        2,
        labels(0, "neutral", "wrong_number", "none"),
        "",
        "+13035550166",
        (
            ("A", "River City Plumbing, how can I help you?"),
            ("C", "Hello, is this the doctor's office?"),
            ("A", "No, this is a plumbing company."),
            ("C", "Oh, I am sorry. I have the wrong number. Goodbye."),
        ),
    ),
    Scenario(
        "robocall",
        "callrail",
        "flac",
        1,
        labels(1, "neutral", "robocall", "none"),
        "",
        "+12025550199",
        (
            (
                "C",
                "This is an important message about your car warranty. Your warranty is about to "
                "expire. This is "
                "your final notice. To speak with someone about your warranty, press one now. To "
                "be removed from "
                "this list, press two.",
            ),
        ),
    ),
    Scenario(
        "vendor-pitch",
        "twilio",
        "mp3",
        2,
        labels(1, "neutral", "sales_pitch", "none"),
        "Kevin Brown",
        "+14155550188",
        (
            ("A", "Good afternoon, how can I help you?"),
            (
                "C",
                "Hello, my name is Kevin Brown, and I am calling from an internet marketing "
                "company. We help "
                "small business owners get more customers. Are you the owner of the business?",
            ),
            ("A", "No, the owner is not here."),
            (
                "C",
                "We have a special offer this month. We can put your business on the first page "
                "of the search "
                "results for a very low price.",
            ),
            ("A", "No thank you, we are not interested."),
        ),
    ),
    Scenario(
        "voicemail",
        "callrail",
        "mp3",
        1,
        labels(0, "neutral", "voicemail", "low"),
        "Thomas Moore",
        "+13035550158",
        (
            ("A", "We cannot take your call right now. Please leave a message after the tone."),
            (
                "C",
                "Hello, this is Thomas Moore. I am leaving a message for the office manager. "
                "Please call me back "
                "when you get this message. My number is five five five, zero one five eight. "
                "Thank you.",
            ),
        ),
        agent="kal16",
        tone_after=0,
    ),
    Scenario(
        "silence",
        "callrail",
        "wav",
        1,
        labels(0, "neutral", "no_conversation", "none"),
        "",
        "+13035550171",
        (),
        silence_s=6.0,
    ),
    Scenario(
        "spanish-caller",
        "twilio",
        "mp3",
        1,
        labels(0, "neutral", "other", "none", unreliable=True),
        "Carlos García",
        "+13055550176",
        (
            ("A", "Buenos días, ¿en qué le puedo ayudar?"),
            (
                "C",
                "Buenos días, me llamo Carlos García. Tengo una fuga de agua en la cocina y "
                "necesito un plomero.",
            ),
            ("A", "Claro que sí. ¿Cuál es su dirección?"),
            ("C", "Vivo en la calle principal, número veinticinco. ¿Puede venir hoy por la tarde?"),
            ("A", "Sí, llegamos a las cuatro."),
            ("C", "Muchas gracias, muy amable. Hasta luego."),
        ),
        agent="es-419+f2",
        customer="es",
        language="es",
    ),
    Scenario(
        "billing-question",
        "twilio",
        "mp3",
        1,
        labels(0, "negative", "billing", "none"),
        "William Clark",
        "+12065550119",
        (
            ("A", "Good morning, how can I help you?"),
            ("C", "Hello, I have a question about my last bill. There is a problem with the payment."),
            ("A", "What is wrong with the bill?"),
            (
                "C",
                "You charged my credit card two times for the same job. I already paid the bill last month.",
            ),
            ("A", "I see. We will send the money back to your card."),
            ("C", "All right. Please check the bill and give me a refund."),
        ),
        agent="kal16",
    ),
    Scenario(
        "cancel-service",
        "twilio",
        "mp3",
        2,
        labels(0, "negative", "cancel", "none"),
        "George Harris",
        "+12065550147",
        (
            ("A", "Thank you for calling. How can I help you?"),
            ("C", "My name is George Harris. I would like to cancel my service. I do not need it anymore."),
            ("A", "I am sorry to hear that. May I ask why?"),
            ("C", "It is too expensive for me. Please cancel my account at the end of this month."),
            ("A", "Okay. Your account will be closed."),
        ),
        agent="kal16",
    ),
    Scenario(
        "job-application",
        "callrail",
        "mp3",
        1,
        labels(0, "positive", "employment", "none"),
        "Richard Davis",
        "+13035550183",
        (
            ("A", "Good afternoon, how can I help you?"),
            (
                "C",
                "Hi, my name is Richard Davis. I am calling about the job. Is the position still "
                "open? I have "
                "worked as a plumber for ten years.",
            ),
            ("A", "Yes, we are looking for people."),
            (
                "C",
                "That is great news. I would love to apply for the position. Where should I send my resume?",
            ),
        ),
    ),
    Scenario(
        "opening-hours",
        "twilio",
        "mp3",
        1,
        labels(0, "neutral", "information", "low"),
        "Paul Martin",
        "+12065550128",
        (
            ("A", "Good morning, how can I help you?"),
            ("C", "Hello. I have a question. What time do you open on Saturday?"),
            ("A", "We open at eight in the morning."),
            ("C", "And what time do you close? Are you open on Sunday?"),
            ("A", "We close at five. We are not open on Sunday."),
            ("C", "Okay, thank you for the information."),
        ),
        agent="kal16",
    ),
    Scenario(
        "water-heater",
        "callrail",
        "opus",
        2,
        labels(0, "positive", "quote_request", "high"),
        "David Miller",
        "+13035550109",
        WATER_HEATER,
    ),
    Scenario(
        "water-heater-mono",
        "twilio",
        "mp3",
        1,
        labels(0, "positive", "quote_request", "high"),
        "David Miller",
        "+12065550109",
        WATER_HEATER,
        mix_of="water-heater",
    ),
    Scenario(
        "dentist-booking",
        "callrail",
        "opus",
        2,
        labels(0, "positive", "appointment", "high"),
        "Peter Walsh",
        "+13035550134",
        (
            ("A", "Good morning, this is Janet. How can I help?"),
            (
                "C",
                "Hi Janet, it's Peter Walsh. I've got a broken tooth, and I'd like to come in this week if "
                "you've got anything.",
            ),
            ("A", "I've got Wednesday at nine thirty, or maybe Thursday"),
            ("C", "Let's do Wednesday. How much is it? I haven't been to your office before."),
            ("A", "It's forty-five dollars for the exam."),
            ("C", "That's fine. You've been really helpful, thanks."),
            ("A", "You're welcome. We'll see you on Wednesday."),
        ),
        agent="pico-us",
        customer="awb",
        interrupts=(3,),
        noise="pink",
        noise_db=20,
    ),
    Scenario(
        "furnace-help",
        "twilio",
        "wav-mulaw",
        1,
        labels(0, "neutral", "support", "none"),
        "Linda Price",
        "+12065550152",
        (
            ("A", "Northside Heating, how can I help?"),
            (
                "C",
                "Hey, it's Linda Price. You guys put in our new furnace on Friday, and it isn't working. It's "
                "sixty-one degrees in here.",
            ),
            ("A", "Have you tried changing the batteries?"),
            ("C", "Yeah, twice, and it's still not on."),
            ("A", "Okay, we'll send someone out by quarter past five."),
            ("C", "Great, thanks."),
        ),
        agent="rms-small",
        customer="pico-us",
        noise="cafe",
        noise_db=20,
    ),
    Scenario(
        "pest-control-quote",
        "twilio",
        "mp3",
        2,
        labels(0, "neutral", "quote_request", "high"),
        "Mark Reed",
        "+12065550164",
        (
            ("A", "Green Shield Services. How can I help you?"),
            (
                "C",
                "Hi, I've got a wasp nest by my garage, and there's ants in the kitchen. What do you charge to "
                "take care of that?",
            ),
            ("A", "It's ninety-nine dollars for the first visit, and after that"),
            ("C", "Sorry, does that include the wasps?"),
            ("A", "It does."),
            ("C", "Okay, that's not bad. Can you come out on Friday, after two? I'm at eighteen Cedar Lane."),
            ("A", "Two thirty works. What's your name?"),
            ("C", "My name's Mark Reed. See you on Friday."),
        ),
        agent="awb",
        customer="rms-slow",
        interrupts=(3,),
        noise="fan",
        noise_db=10,
    ),
    Scenario(
        "roof-complaint",
        "callrail",
        "mp3",
        1,
        labels(0, "negative", "complaint", "none"),
        "Frank Dawson",
        "+13035550192",
        (
            ("A", "Good afternoon, this is Tom. How can I help you?"),
            (
                "C",
                "Hi Tom, this is Frank Dawson. I paid you guys eight thousand dollars for a new roof in May, and it's "
                "leaking again.",
            ),
            ("A", "I'm sorry, Mister Dawson. Didn't we come out and fix that?"),
            (
                "C",
                "You did, twice, and it's still not right. I've called three times and nobody's called me "
                "back. I'm really fed up.",
            ),
            ("A", "I'll have the manager call you before six."),
            ("C", "If it's not fixed by Monday, I want my money back."),
        ),
        agent="pico-gb",
        customer="rms-slow",
        noise="road",
        noise_db=10,
    ),
)
