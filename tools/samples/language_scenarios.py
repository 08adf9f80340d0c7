"""Recordings in other languages, for tests of which language is heard; the Spanish call is a sample call of its own."""

from __future__ import annotations

from tools.samples.call_scenarios import Scenario, labels

UNREAD = labels(0, "neutral", "other", "none", unreliable=True)

LANGUAGES = (
    Scenario(
        "french-caller",
        "callrail",
        "mp3",
        1,
        UNREAD,
        "Claire Dubois",
        "+13035550103",
        (
            ("A", "Bonjour, comment puis-je vous aider ?"),
            (
                "C",
                "Bonjour, je m'appelle Claire Dubois. Il y a de l'eau partout dans la cuisine, et j'ai besoin d'un "
                "plombier aujourd'hui.",
            ),
            ("A", "D'accord. Quelle est votre adresse ?"),
            ("C", "J'habite rue de la République, au premier étage."),
            ("A", "Très bien. Le plombier arrive cet après-midi."),
            ("C", "Merci beaucoup. Au revoir."),
        ),
        agent="pico-fr",
        customer="pico-fr-large",
        language="fr",
    ),
    Scenario(
        "german-caller",
        "callrail",
        "mp3",
        1,
        UNREAD,
        "Anna Weber",
        "+13035550105",
        (
            ("A", "Guten Morgen, mein Name ist Schneider. Was kann ich für Sie tun?"),
            ("C", "Hallo, ich heiße Anna Weber. Ich möchte meine Wohnung streichen lassen."),
            ("A", "Ja, natürlich. Wann haben Sie denn Zeit?"),
            ("C", "Am Nachmittag bin ich zu Hause. Was würde das ungefähr kosten?"),
            ("A", "Das sage ich Ihnen dann. Vielen Dank."),
        ),
        agent="pico-de",
        customer="pico-de-large",
        language="de",
    ),
    Scenario(
        "english-agent-spanish-caller",
        "callrail",
        "opus",
        2,
        UNREAD,
        "Lucía Torres",
        "+13035550107",
        (
            ("A", "Good morning, this is Michael. How can I help you?"),
            ("C", "Buenos días. ¿Habla español? Necesito un plomero, por favor."),
            ("A", "I'm sorry, I don't speak Spanish. Do you have a leak?"),
            ("C", "Sí, hay agua en toda la cocina. ¿Puede venir alguien hoy por la tarde?"),
            ("A", "One of my colleagues speaks Spanish. He'll call you back in ten minutes."),
            ("C", "Muchas gracias, muy amable. Hasta luego."),
        ),
        agent="rms-slow",
        customer="pico-es",
        language="es",
        agent_language="en",
    ),
)
