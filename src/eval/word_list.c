#include <assert.h>
#include <string.h>

#include "eval/families.h"

/* Each list is words of one length with a space after each, so that word i starts at
 * i * (length + 1). */
static const char WORDS_3[] =
    "act add age air ant arm art ask axe bag bat bed bee big bin box boy bus buy can cap car "
    "cat cow cup cut day dig dog dry ear eat egg end fan far few fig fix fly fog fox fun gap "
    "gas get hat hen hip hot ice ink jam jar jet job joy key kit lap law leg lid lip log low "
    "map mix mud net new nut oak oil old owl own pan pay pen pet pie pig pin pot put ran raw "
    "red rib row rug run sad saw sea sit six sky son sun tap tea ten tie toe top toy try two "
    "use van wax way web wet win yes zoo ";

static const char WORDS_4[] =
    "able acid army baby back bake ball band bank barn bath bead bean bear belt bend bird blue "
    "boat body bone book boot bowl bulb burn cake calm camp card cart cave chin city clay clip "
    "coal coat cold comb cook copy corn crab crow cube dark dawn deer desk dish dive dock door "
    "down draw drum duck dust east echo edge face fact farm fast fern film fire fish flag flat "
    "foot fork frog fuel game gate gift girl glad glue goat gold gray grow hall hand harp hawk "
    "heat hill holy home hook horn hour idea iron item jazz joke jump kind king kite knee lake "
    "lamp leaf lime lion list lock loud luck mail mask meal milk mint moon nail name neck nest "
    "nose note oven page pale palm park path peak pear pine pink pipe plan play plum poem pond "
    "port rain rice ring road rock roof root rope rose ruby rule sail salt sand seed ship shoe "
    "silk skin snow soap sock soft song soup star stem suit swan tail tent tide tiny town tree "
    "tube twin vase vine walk wall warm wave week west ";

static const char WORDS_5[] =
    "actor adult alarm angel ankle apple apron arrow award bacon badge basil beach beard bench "
    "berry birch black blade blank block board bonus brain brave bread brick bride broom brown "
    "brush cabin camel candy canoe cargo chain chair chalk cheek chess chest chief child clean "
    "clock cloth cloud coach coast coral couch cover crane cream crown curve daisy dance dream "
    "dress drink eagle earth elbow empty enemy entry fairy feast fence field flame floor flour "
    "flute fresh front frost fruit giant glass globe glove grain grape grass green guest guide "
    "habit happy heart honey horse hotel house human image ivory jelly juice knife lemon light "
    "linen lucky lunch magic maple march medal melon metal model money month motor mouse mouth "
    "movie music night noise north novel nurse ocean olive onion opera orbit otter paint panda "
    "paper party peach pearl phone photo piano pilot pizza plane plant plate point prize queen "
    "quick quiet river robin robot round salad scale scarf shade shark sheep shelf shell shirt "
    "skirt sleep smile smoke snake south space spice spoon sport stage steam stone storm story "
    "sugar table tiger toast torch towel tower trail train truck trunk uncle voice wagon watch "
    "water whale wheel white woman world young zebra ";

static const char WORDS_6[] =
    "anchor animal answer artist august autumn bakery ballet bamboo banana barrel basket beaver "
    "bottle branch breeze bridge bright bronze bucket butter button camera candle canyon carpet "
    "carrot castle cattle cheese cherry church circle coffee copper corner cotton cousin dinner "
    "doctor dragon drawer engine family farmer father finger flower forest fridge friend frozen "
    "garden garlic ginger guitar hammer harbor helmet hunter island jacket jungle kettle kitten "
    "ladder lawyer leader legend letter lizard marble market meadow mirror mother museum needle "
    "number office orange oyster palace parent parrot pencil people pepper pillow planet pocket "
    "poetry potato powder prince purple rabbit rocket saddle school season shadow silver singer "
    "sister spider spring square stream street summer sunset switch temple ticket tunnel turtle "
    "valley velvet violin wallet walnut window winter wonder yellow ";

static const char WORDS_7[] =
    "academy airport amazing ancient apricot bedroom bicycle biscuit blanket bracket brother "
    "cabbage cabinet captain ceiling central chapter chicken citizen climate compass concert "
    "cottage country cricket crystal curtain dentist desktop diamond dolphin drawing eastern "
    "eclipse emerald evening factory feather fiction fireman florist fortune freedom gallery "
    "giraffe grocery haircut hamster harvest history holiday husband iceberg journey justice "
    "kitchen lantern leather leopard library lobster machine mailbox mammoth mineral monster "
    "morning mustard mystery natural network octopus orchard ostrich outdoor package painter "
    "panther parking peacock penguin picture pilgrim plastic popcorn pottery printer pumpkin "
    "quarter railway rainbow recycle sailing scholar science seaside shelter silence soldier "
    "spinach station stomach student sunrise teacher theater thunder tourist tractor traffic "
    "trumpet vanilla village vinegar volcano warrior weather webpage western whisper ";

static const char WORDS_8[] =
    "airplane alphabet antelope baseball bathroom birthday blizzard broccoli building business "
    "calendar campfire cardinal ceremony champion chemical children chipmunk cinnamon computer "
    "creative cucumber daughter december dinosaur doughnut elephant elevator envelope evidence "
    "exercise explorer external festival firewood flamingo football fountain fragrant gardener "
    "goldfish graceful grateful greeting hardware heritage homework hospital internet kangaroo "
    "keyboard language laughter lavender lemonade magazine magician mountain mushroom musician "
    "notebook november ointment operator ornament painting paradise passport platform pleasant "
    "porridge princess question raincoat reindeer sandwich scissors seashell shoulder skeleton "
    "snowfall software sparkler spectrum squirrel starfish strength sunlight surprise swimming "
    "teaspoon thousand together tortoise treasure triangle umbrella universe vacation vertical "
    "volcanic wildlife windmill yourself ";

static const struct {
    const char *text;
    size_t size; /* with the NUL */
} LISTS[] = {
    {WORDS_3, sizeof WORDS_3}, {WORDS_4, sizeof WORDS_4}, {WORDS_5, sizeof WORDS_5},
    {WORDS_6, sizeof WORDS_6}, {WORDS_7, sizeof WORDS_7}, {WORDS_8, sizeof WORDS_8},
};

size_t sp_words_count(int length) {
    assert(length >= SP_WORD_MIN && length <= SP_WORD_MAX);
    return (LISTS[length - SP_WORD_MIN].size - 1) / ((size_t)length + 1);
}

void sp_words_copy(int length, size_t i, char out[SP_WORD_MAX + 1]) {
    assert(i < sp_words_count(length));
    memcpy(out, LISTS[length - SP_WORD_MIN].text + i * ((size_t)length + 1), (size_t)length);
    out[length] = '\0';
}
